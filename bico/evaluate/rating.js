"use strict";
const main = document.querySelector("main"), rater = document.getElementById("rater");
const key = (name) => `bico-rating-${main.dataset.study}-${name}`;
// A page from the disk may have no storage: then nothing is kept, and the rest works.
const store = { get(name) { try { return localStorage.getItem(key(name)); } catch { return null; } },
  set(name, value) { try { localStorage.setItem(key(name), value); } catch { /* kept on the page alone */ } } };

// Every rater sees another order, and the same one again.
let sections = [...document.querySelectorAll("section")];
const kept = JSON.parse(store.get("order") || "null");
const tokens = sections.map((section) => section.dataset.item);
if (kept && kept.length === tokens.length && kept.every((item) => tokens.includes(item))) {
  sections = kept.map((item) => sections[tokens.indexOf(item)]);
} else {
  for (let k = sections.length - 1; k > 0; k--) {
    const other = Math.floor(Math.random() * (k + 1));
    [sections[k], sections[other]] = [sections[other], sections[k]];
  }
  store.set("order", JSON.stringify(sections.map((section) => section.dataset.item)));
}

const radios = [...document.querySelectorAll("input[type=radio]")];
const answers = JSON.parse(store.get("answers") || "{}");
for (const radio of radios) radio.checked = answers[radio.name] === radio.value;
rater.value = store.get("rater") || "";
const questions = new Set(radios.map((radio) => radio.name));
let at = 0;

function show(number, focus = true) {
  at = Math.max(0, Math.min(sections.length - 1, number));
  sections.forEach((section, k) => {
    section.hidden = k !== at;
    for (const clip of section.querySelectorAll("video")) if (k === at) clip.play().catch(() => {}); else clip.pause();
  });
  document.getElementById("back").disabled = at === 0;
  document.getElementById("next").disabled = at === sections.length - 1;
  said();
  if (focus) sections[at].querySelector("h2").focus();
}
function said() {
  const given = Object.keys(answers).filter((name) => questions.has(name)).length;
  document.getElementById("place").textContent =
    `${at + 1} of ${sections.length}; ${given} of ${questions.size} questions answered`;
}
main.addEventListener("change", ({ target }) => {
  if (target.type !== "radio") return;
  answers[target.name] = target.value;
  store.set("answers", JSON.stringify(answers));
  said();
});
rater.addEventListener("input", () => store.set("rater", rater.value));
document.getElementById("back").addEventListener("click", () => show(at - 1));
document.getElementById("next").addEventListener("click", () => show(at + 1));

const quoted = (text) => `"${text.replaceAll('"', '""')}"`;
document.getElementById("save").addEventListener("click", () => {
  if (!rater.reportValidity()) return;
  const lines = ["rater,item,question,rating"];
  for (const name of questions) {
    const [item, question] = name.split(".");
    if (answers[name]) lines.push([quoted(rater.value), item, question, answers[name]].join(","));
  }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
  link.download = "ratings.csv";
  link.click();
  URL.revokeObjectURL(link.href);
});
show(0, false);
