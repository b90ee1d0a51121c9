// Loads the models. The first one is asked for at once, while the browser still reads the rest of the page.
"use strict";
(() => {
  const FOLDER = document.currentScript.src.replace(/[^/]*$/, "");
  const requests = new Map();

  /** A promise of `Memgen.model(task)`; every file is asked for once. */
  Memgen.request = (task) => {
    if (!requests.has(task)) requests.set(task, new Promise((resolve, reject) => {
      const failed = () => reject(new Error(`The file model-${task}.js could not be loaded. Is the folder _static/live complete?`));
      const script = document.createElement("script");
      script.src = `${FOLDER}model-${task}.js`;
      script.onload = () => (Memgen.model(task) ? resolve(Memgen.model(task)) : failed());
      script.onerror = failed;
      document.head.append(script);
    }));
    return requests.get(task);
  };

  /** The task to begin with: the one that the address names, or else the first that there is. */
  Memgen.first = () => {
    const named = new URLSearchParams(location.hash.slice(1)).get("task"), tasks = Memgen.available.map(({ task }) => task);
    return tasks.includes(named) ? named : tasks[0];
  };

  if (Memgen.first()) Memgen.request(Memgen.first()).catch(() => {}); // live.js asks again and says what is wrong
})();
