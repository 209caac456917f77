"use strict";
const all = (selector, of = document) => [...of.querySelectorAll(selector)];
const sections = all("main > section:not(.refused):not(#words)");
const form = document.getElementById("filter");
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
let playing = false; // whether clips play as they come into view

// A clip is fetched when it comes near the view, and only plays in it.
function load(video) {
  if (!video.src) { video.src = video.dataset.src; video.preload = "metadata"; }
}
const near = new IntersectionObserver(
  (entries) => entries.forEach((e) => { if (e.isIntersecting) load(e.target); }), { rootMargin: "400px" });
const seen = new IntersectionObserver((entries) => entries.forEach((e) => {
  if (!e.isIntersecting) e.target.pause(); else if (playing) e.target.play().catch(() => {});
}));
function watch(video) { near.observe(video); seen.observe(video); }
all("main video").forEach(watch);

// Over a small clip its controls hide it, so they are there only for who uses it.
for (const [name, controls] of Object.entries({ pointerover: true, focusin: true, pointerout: false, focusout: false })) {
  document.addEventListener(name, ({ target }) => {
    if (target.matches?.("main video")) target.controls = controls || target === document.activeElement;
  });
}

// The clips of one place play in step: all from the beginning, and whoever drifts from the first is set back to it.
function shown(place) { return all("video", place).filter((video) => !video.closest("[hidden]")); }
function playInStep(place) {
  const clips = shown(place);
  clips.forEach((clip) => { load(clip); clip.pause(); });
  const ready = clips.map((clip) => clip.readyState > 1 ? null : new Promise((done) => {
    clip.addEventListener("loadeddata", done, { once: true });
    clip.addEventListener("error", done, { once: true });
    clip.preload = "auto";
  }));
  return Promise.all(ready).then(() => {
    clips.forEach((clip) => { clip.currentTime = 0; });
    clips.forEach((clip) => clip.play().catch(() => {}));
    const [first, ...others] = clips;
    if (first) first.ontimeupdate = () => others.forEach((clip) => {
      const at = clip.duration ? first.currentTime % clip.duration : 0;
      if (!clip.paused && Math.abs(clip.currentTime - at) > 0.1) clip.currentTime = at;
    });
  });
}
document.addEventListener("click", (event) => {
  if (event.target.matches("button.play")) playInStep(event.target.closest("section, dialog"));
});

// Filters, kept in the address.
function filter() {
  const { text, concept, seed, twins } = Object.fromEntries(new FormData(form));
  const words = (text || "").toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const section of sections) {
    const said = section.id.toLowerCase() + " " + section.querySelector(".prompt").textContent.toLowerCase();
    const figures = all("figure[data-seed]", section);
    figures.forEach((f) => { f.hidden = (seed && f.dataset.seed !== seed) || (!twins && f.classList.contains("twin")); });
    const has = !concept || section.dataset.concepts.split(" ").includes(concept);
    const results = figures.some((f) => !f.hidden && f.classList.contains("result"));
    section.hidden = !(has && results && words.every((word) => said.includes(word)));
    count += !section.hidden;
  }
  document.getElementById("count").textContent = `${count} of ${sections.length} shown`;
  const kept = new URLSearchParams({ text: text || "", concept, seed, twins: twins ? "on" : "" });
  history.replaceState(null, "", `#${kept}`);
}
form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
if (location.hash.includes("=")) {
  const kept = new URLSearchParams(location.hash.slice(1));
  for (const name of ["text", "concept", "seed"]) form.elements[name].value = kept.get(name) || "";
  form.elements.twins.checked = kept.get("twins") === "on";
}
const anchor = location.hash.includes("=") ? "" : location.hash.slice(1);
filter();
if (anchor) document.getElementById(decodeURIComponent(anchor))?.scrollIntoView();

document.getElementById("all-play").addEventListener("click", (event) => {
  playing = event.target.getAttribute("aria-pressed") !== "true";
  event.target.setAttribute("aria-pressed", playing);
  event.target.textContent = playing ? "Pause all" : "Play all in view";
  for (const video of all("main video")) {
    const box = video.getBoundingClientRect();
    if (!playing) video.pause();
    else if (box.bottom > 0 && box.top < innerHeight) { load(video); video.play().catch(() => {}); }
  }
});

// The page is not made again where the folder of results is renamed.
const depth = Number(document.body.dataset.depth);
const folder = decodeURIComponent(location.pathname).split("/").slice(-2 - depth, -2).join("/");
if (folder) all(".results").forEach((name) => { name.textContent = folder; });

// Two results side by side.
const dialog = document.getElementById("compare");
function compare(chosen) {
  const row = dialog.querySelector(".row");
  row.replaceChildren(...chosen.map((box) => {
    const figure = document.createElement("figure"), caption = document.createElement("figcaption");
    const media = document.createElement(box.dataset.path.endsWith(".mp4") ? "video" : "img");
    caption.textContent = box.dataset.name;
    media.src = box.dataset.path;
    if (media.tagName === "VIDEO") Object.assign(media, { controls: true, loop: true, muted: true, playsInline: true });
    media.setAttribute(media.tagName === "VIDEO" ? "aria-label" : "alt", box.dataset.name);
    figure.append(media, caption);
    return figure;
  }));
  dialog.showModal();
  if (!still) playInStep(dialog);
}
dialog.querySelector(".close").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => all(".choose").forEach((box) => { box.checked = false; }));
document.addEventListener("change", () => {
  const chosen = all(".choose:checked");
  if (chosen.length === 2) compare(chosen);
});

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  const visible = sections.filter((section) => !section.hidden);
  const at = visible.indexOf(document.activeElement.closest("section"));
  if (event.key === "/") { event.preventDefault(); form.elements.text.focus(); }
  else if ("jk".includes(event.key) && visible.length && !dialog.open) {
    const next = visible[Math.max(0, Math.min(visible.length - 1, event.key === "j" ? at + 1 : at - 1))];
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "start" });
  } else if (event.key === "p" && !dialog.open && at >= 0) playInStep(visible[at]);
});
