"use strict";
// The page works without this: its tiles are links. This adds search, order, and the large picture with its recipe.
const $ = (id) => document.getElementById(id);
const pictures = JSON.parse($("data").textContent);
const grid = $("grid"), dialog = $("large");
const tiles = [...grid.children];
tiles.forEach((tile, number) => {
  const { prompt, file, seed } = pictures[number];
  pictures[number].number = number;
  pictures[number].text = `${prompt} ${file} ${seed}`.toLowerCase();
});
let shown = pictures; // in the order of the page
let open = null;

const orders = {
  new: (a, b) => b.number - a.number,
  old: (a, b) => a.number - b.number,
  score: (a, b) => (b.score ?? -Infinity) - (a.score ?? -Infinity) || a.number - b.number,
  prompt: (a, b) => a.prompt.localeCompare(b.prompt) || a.number - b.number,
};

function arrange() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean), model = $("model").value;
  shown = pictures.filter((one) => (!model || one.model === model) && words.every((word) => one.text.includes(word)));
  shown.sort(orders[$("sort").value]);
  grid.replaceChildren(...shown.map((one) => tiles[one.number]));
  $("none").hidden = shown.length > 0;
  const all = pictures.length, plural = all === 1 ? "" : "s";
  $("count").textContent = shown.length === all ? `${all} picture${plural}` : `${shown.length} of ${all} pictures`;
}

function row(name, value) {
  const term = document.createElement("dt"), said = document.createElement("dd");
  term.textContent = name;
  said.textContent = value;
  return [term, said];
}

function show(one) {
  open = one;
  $("picture").src = one.address;
  $("picture").alt = one.prompt || one.file;
  $("title").textContent = one.prompt || one.file;
  const facts = [["File", one.file], ["Seed", one.seed], ["Score", one.score?.toFixed(3)], ["Step", one.step],
                 ["Model", one.model], ["Made", new Date(one.made).toLocaleString()]];
  $("facts").replaceChildren(...facts.filter(([, value]) => value != null && value !== "").flatMap(([n, v]) => row(n, v)));
  $("command").textContent = one.command || "Its recipe is of another version, or damaged: there is no command for it.";
  $("copy").disabled = !one.command;
  $("recipe").textContent = one.recipe;
  $("download").href = one.address;
  const place = shown.indexOf(one);
  $("before").disabled = place <= 0;
  $("after").disabled = place < 0 || place === shown.length - 1;
  $("said").textContent = "";
  if (!dialog.open) dialog.showModal();
  history.replaceState(null, "", `#${encodeURIComponent(one.file)}`);
}

function step(by) {
  const next = shown[shown.indexOf(open) + by];
  if (next) show(next);
}

async function copy() {
  try {
    await navigator.clipboard.writeText(open.command);
  } catch { // a page from a file may not: what is selected can be copied by hand
    getSelection().selectAllChildren($("command"));
    if (!document.execCommand("copy")) return void ($("said").textContent = "Selected: copy it with Ctrl-C.");
  }
  $("said").textContent = "Copied.";
}

function move(event) { // among tiles, by arrow
  const links = shown.map((one) => tiles[one.number].firstElementChild), at = links.indexOf(document.activeElement);
  if (at < 0) return;
  const columns = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -at, End: links.length - 1 - at };
  const next = links[at + by[event.key]];
  if (!next) return;
  event.preventDefault();
  next.focus();
}

grid.addEventListener("click", (event) => {
  const tile = event.target.closest("li");
  if (!tile || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  show(pictures[tiles.indexOf(tile)]);
});
dialog.addEventListener("close", () => {
  history.replaceState(null, "", location.pathname + location.search);
  tiles[open.number].firstElementChild.focus();
});
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (dialog.open) {
    if (event.target.closest("pre")) return;
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  } else if (event.key === "/" && !event.target.matches("input, select")) {
    event.preventDefault();
    $("search").focus();
  } else move(event);
});
$("before").onclick = () => step(-1);
$("after").onclick = () => step(1);
$("close").onclick = () => dialog.close();
$("copy").onclick = copy;
$("tools").addEventListener("submit", (event) => event.preventDefault());
$("tools").addEventListener("input", arrange);
$("clear").onclick = () => { $("tools").reset(); arrange(); $("search").focus(); };
$("tools").hidden = false;
arrange();
const named = pictures.find((one) => `#${encodeURIComponent(one.file)}` === location.hash);
if (named) show(named);
