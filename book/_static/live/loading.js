// Loads the models. The first one is asked for at once, while the browser still reads the rest of the page; what its first answer
// can do without comes in a file of its own, asked for after that answer.
"use strict";
(() => {
  const FOLDER = document.currentScript.src.replace(/[^/]*$/, "");
  const requests = new Map();

  /** A promise of `there()` after a script of the folder has run; every file is asked for once. */
  function load(name, there) {
    if (!requests.has(name)) requests.set(name, new Promise((resolve, reject) => {
      const failed = () => reject(new Error(`The file ${name} could not be loaded. Is the folder _static/live complete?`));
      const script = document.createElement("script");
      script.src = `${FOLDER}${name}`;
      script.onload = () => (there() ? resolve(there()) : failed());
      script.onerror = failed;
      document.head.append(script);
    }));
    return requests.get(name);
  }

  /** A promise of `Memgen.model(task)`. */
  Memgen.request = (task) => load(`model-${task}.js`, () => Memgen.model(task));

  /** A promise of the test prompts and methods of a model that is there. */
  Memgen.requestMore = (task) => load(`more-${task}.js`, () => Memgen.model(task).more);

  /** The task to begin with: the one that the address names, or else the first that there is. */
  Memgen.first = () => {
    const named = new URLSearchParams(location.hash.slice(1)).get("task"), tasks = Memgen.available.map(({ task }) => task);
    return tasks.includes(named) ? named : tasks[0];
  };

  if (Memgen.first()) Memgen.request(Memgen.first()).catch(() => {}); // live.js asks again and says what is wrong
})();
