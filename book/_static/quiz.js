// Quizzes: a button below each question tells whether the chosen option is right, and why. The explanations are those of the folded
// list of answers, which stays for readers without scripts. A button, because arrow keys move a choice: nobody shall see an answer in passing.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  for (const quiz of document.querySelectorAll(".quiz")) {
    const explained = quiz.querySelectorAll(".quiz-answers > ol");
    quiz.querySelectorAll("fieldset").forEach((question, number) => {
      const said = question.querySelector(".quiz-said");
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = "Check";
      button.addEventListener("click", () => {
        const chosen = question.querySelector("input:checked");
        if (!chosen) {
          said.textContent = "Choose an answer first.";
          return;
        }
        const answer = explained[number].children[Number(chosen.value)];
        said.dataset.right = answer.dataset.right;
        said.innerHTML = answer.lastElementChild.innerHTML;
      });
      question.addEventListener("change", () => {
        said.textContent = "";
        delete said.dataset.right;
      });
      said.before(button);
    });
  }
});
