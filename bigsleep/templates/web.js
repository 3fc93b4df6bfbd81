"use strict";
// The page shows what the server tells of its dreams and asks for others; all state is the server's.
const $ = (id) => document.getElementById(id);
const dreams = new Map(); // by id: what is known of it
let followed = null; // the id of the dream on the stage
let open = null, morphing = null; // pictures of the history
let oldest = ""; // of the history shown

async function call(path, options = {}) {
  const answer = await fetch(path, options);
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error);
  return body;
}

const post = (body) =>
  call("/api/dreams", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

// The stage: one dream, as it grows.

function running() {
  return [...dreams.values()].find((one) => one.state === "dreaming");
}

function pictureOf(dream) {
  return dream.name && !/\.(mp4|webm)$/.test(dream.name) ? dream.name : "";
}

function duration(seconds) {
  const left = Math.ceil(seconds), minutes = Math.floor(left / 60);
  return minutes ? `${minutes} min ${left % 60} s` : `${left} s`;
}

function statusOf(dream) {
  const step = dream.step, of = dream.start.steps ? ` of ${dream.start.steps}` : "";
  if (dream.state === "waiting") return "Waits for its turn.";
  if (dream.state === "failed") return `It came to nothing: ${dream.end.error}`;
  if (dream.state === "done") {
    if (dream.film) return `Done: ${dream.name}`;
    const early = dream.end.share < 1 ? "Stopped; the best so far is kept" : "Done";
    return `${early}: step ${dream.end.steps}, score ${dream.end.score.toFixed(3)}, seed ${dream.end.seed}. ${dream.name}`;
  }
  if (dream.film) return step.step ? `Frame ${step.step}` : "Getting ready …";
  if (!step.step) return step.heard ? `Audition ${step.heard} of ${step.auditions}, ${duration(step.seconds_left)} left` : "Getting ready …";
  const score = step.score == null ? "" : `, score ${step.score.toFixed(3)}`;
  return `Step ${step.step}${of}${score}, ${duration(step.seconds_left)} left`;
}

let shownPicture = "";
function showStage() {
  const dream = dreams.get(followed);
  if (!dream) return;
  $("of").textContent = dream.prompt;
  $("status").textContent = statusOf(dream);
  $("status").classList.toggle("failed", dream.state === "failed");
  $("stop").hidden = dream.state !== "dreaming" && dream.state !== "waiting";
  $("stop").textContent = dream.state === "waiting" ? "Take it out of the queue" : dream.film ? "Stop" : "Stop, and keep the best";
  $("share").hidden = dream.state !== "dreaming";
  $("share").value = dream.step.share ?? 0;
  const name = pictureOf(dream), address = name && `/pictures/${encodeURIComponent(name)}?${dream.curve.length}-${dream.state}`;
  if (address !== shownPicture) {
    shownPicture = address;
    $("nothing").hidden = $("growing").hidden = true;
    if (address) {
      $("growing").src = address;
      $("growing").alt = `${dream.prompt}, as far as it is`;
      $("growing").hidden = false;
    } else $("nothing").hidden = false;
    $("nothing").textContent = dream.state === "failed" ? "No picture." : "Its first picture is on the way.";
  }
  drawCurve(dream.curve);
}

function drawCurve(curve) {
  $("curve").toggleAttribute("hidden", curve.length === 0); // SVG has no such property
  const scores = curve.map(([, score]) => score), steps = curve.map(([step]) => step);
  const low = Math.min(...scores), high = Math.max(...scores), last = Math.max(...steps), first = Math.min(...steps);
  const at = ([step, score]) => [
    10 + 300 * (last > first ? (step - first) / (last - first) : 0.5),
    80 - 70 * (high > low ? (score - low) / (high - low) : 0.5),
  ];
  const places = curve.map(at);
  $("curve").querySelector("polyline").setAttribute("points", places.map((place) => place.join()).join(" "));
  $("curve").querySelector("g").replaceChildren(...places.map(([x, y], number) => {
    const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    dot.setAttribute("cx", x);
    dot.setAttribute("cy", y);
    dot.setAttribute("r", 2.5);
    const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
    title.textContent = `step ${steps[number]}: ${scores[number].toFixed(3)}`;
    dot.append(title);
    return dot;
  }));
  if (curve.length) $("curve").setAttribute("aria-label", `Score of ${curve.length} snapshots, from ${scores[0].toFixed(3)} to ${scores.at(-1).toFixed(3)}`);
}

function showQueue() {
  const waiting = [...dreams.values()].filter((one) => one.state === "waiting" || (one.state === "dreaming" && one.id !== followed));
  $("queue").replaceChildren(...waiting.map((dream) => {
    const line = document.createElement("li"), see = document.createElement("button"), away = document.createElement("button");
    see.type = away.type = "button";
    see.textContent = "Look";
    see.setAttribute("aria-label", `Look at ${dream.prompt}`);
    see.onclick = () => { followed = dream.id; showStage(); showQueue(); };
    away.textContent = dream.state === "waiting" ? "Take out" : "Stop";
    away.setAttribute("aria-label", `${away.textContent}: ${dream.prompt}`);
    away.onclick = () => stop(dream.id);
    line.append(`${dream.prompt} (${dream.state === "waiting" ? "waits" : "is dreamt now"})`, see, away);
    return line;
  }));
}

const stop = (id) => call(`/api/dreams/${id}`, { method: "DELETE" }).catch((error) => ($("note").textContent = error.message));

// What the server tells.

function hear(event) {
  if (event.event === "all") {
    dreams.clear();
    event.dreams.forEach((dream) => dreams.set(dream.id, dream));
    if (!dreams.has(followed)) followed = running()?.id ?? event.dreams.at(-1)?.id ?? null;
    showHistory();
  } else if (event.event === "note") {
    $("note").textContent = event.text;
    return;
  } else if (event.dream) {
    dreams.set(event.id, event.dream);
    const before = dreams.get(followed);
    // Who watches a dream that is over goes on with the next one, unless that one was asked for here and waits.
    if (event.event === "start" && (!before || ["done", "failed"].includes(before.state))) followed = event.id;
    if (event.event === "done") showHistory();
  }
  if (followed === null && event.id) followed = event.id;
  showStage();
  if (event.event !== "step") showQueue();
}

const events = new EventSource("/api/events");
events.onmessage = (message) => hear(JSON.parse(message.data));
events.onopen = () => { $("note").textContent = ""; };
events.onerror = () => { $("note").textContent = "The server is not there. It is looked for again …"; };

// Asking.

const files = {}; // option: the name that the server has for the image
function choose(option, name, shown) {
  files[option] = name;
  const chosen = document.querySelector(`.chosen[data-for="${option}"]`);
  chosen.hidden = !name;
  chosen.firstElementChild.textContent = shown ?? "";
  $(option).hidden = Boolean(name);
}
for (const option of ["start", "image_prompt"]) {
  $(option).onchange = async () => {
    const file = $(option).files[0];
    if (!file) return;
    try {
      const answer = await call("/api/uploads", { method: "POST", headers: { "Content-Type": file.type || "image/png" }, body: file });
      choose(option, answer.name, file.name);
      $("wrong").textContent = "";
    } catch (error) {
      $("wrong").textContent = error.message;
    }
    $(option).value = "";
  };
  document.querySelector(`.chosen[data-for="${option}"] button`).onclick = () => choose(option, null);
}

function asked() {
  const options = {};
  for (const field of $("ask").querySelectorAll("[name]")) {
    const value = field.type === "checkbox" ? (field.checked ? field.value : "") : field.value.trim();
    if (value) options[field.name] = value;
  }
  for (const [option, name] of Object.entries(files)) if (name) options[option] = name;
  return { ...options, variations: Number($("variations").value) || 1 };
}

async function ask(body, complain) {
  complain.textContent = "";
  try {
    const answer = await post(body);
    if (dreams.get(followed)?.state !== "dreaming") followed = answer.dreams[0].id;
    showStage();
    if (matchMedia("(max-width: 46rem)").matches) $("stage").scrollIntoView();
    return true;
  } catch (error) {
    complain.textContent = error.message;
    return false;
  }
}

$("ask").onsubmit = (event) => {
  event.preventDefault();
  ask(asked(), $("wrong"));
};
$("prompt").onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
};
$("stop").onclick = () => stop(followed);

// The history.

function tile(picture) {
  const item = document.createElement("li"), button = document.createElement("button"), words = document.createElement("span");
  button.type = "button";
  if (/\.(mp4|webm)$/.test(picture.file)) button.append("▶ ");
  else {
    const image = document.createElement("img");
    image.loading = "lazy";
    image.alt = "";
    image.src = `/thumbs/${encodeURIComponent(picture.file)}?${picture.made}`;
    button.append(image);
  }
  words.className = "words";
  words.dir = "auto";
  words.textContent = picture.prompt || picture.file;
  const small = document.createElement("span");
  small.className = "small";
  for (const text of picture.film ? ["film"] : [picture.score != null && `score ${picture.score.toFixed(3)}`, picture.seed && `seed ${picture.seed}`]) {
    if (!text) continue;
    const part = document.createElement("span");
    part.textContent = text;
    small.append(part, " ");
  }
  button.append(words, small);
  button.onclick = () => (morphing ? morphInto(picture) : show(picture));
  item.append(button);
  return item;
}

async function showHistory(more = false) {
  try {
    const { pictures } = await call(`/api/pictures?count=60${more ? `&before=${oldest}` : ""}`);
    $("grid").replaceChildren(...(more ? $("grid").children : []), ...pictures.map(tile));
    if (pictures.length) oldest = pictures.at(-1).before;
    $("more").hidden = pictures.length < 60;
  } catch (error) {
    $("note").textContent = error.message;
  }
}
$("more").onclick = () => showHistory(true);

function row(name, value) {
  const term = document.createElement("dt"), said = document.createElement("dd");
  term.textContent = name;
  said.textContent = value;
  return [term, said];
}

function show(picture) {
  open = picture;
  const address = `/pictures/${encodeURIComponent(picture.file)}`;
  $("picture").src = `${address}?${picture.made}`;
  $("picture").alt = picture.prompt || picture.file;
  $("title").textContent = picture.prompt || picture.file;
  const facts = [["File", picture.file], ["Seed", picture.seed], ["Score", picture.score?.toFixed(3)], ["Step", picture.step],
                 ["Model", picture.model], ["Made", new Date(picture.made).toLocaleString()]];
  $("facts").replaceChildren(...facts.filter(([, value]) => value != null && value !== "").flatMap(([n, v]) => row(n, v)));
  $("doing").hidden = Boolean(picture.film);
  $("command").textContent = picture.command || "Its recipe is of another version, or damaged: there is no command for it.";
  $("copy").disabled = !picture.command;
  $("steer").value = picture.prompt ?? "";
  $("download").href = address;
  $("download").download = picture.file;
  $("refused").textContent = $("said").textContent = "";
  if (!$("large").open) $("large").showModal();
}

async function from(body) {
  if (await ask({ from: open.file, ...body }, $("refused"))) $("large").close();
}
$("on").onsubmit = (event) => {
  event.preventDefault();
  const words = $("steer").value.trim();
  from(words && words !== open.prompt ? { prompt: words } : {});
};
$("vary").onclick = () => from({ vary: true, variations: 3 });
$("begin").onclick = () => { choose("start", open.file, open.file); $("large").close(); $("prompt").focus(); };
$("morph").onclick = () => {
  morphing = open;
  $("large").close();
  $("picking").hidden = false;
  $("picking").firstElementChild.textContent = `Choose the picture that “${open.prompt || open.file}” turns into.`;
  $("picking").scrollIntoView({ block: "center" });
};
$("unpick").onclick = () => { morphing = null; $("picking").hidden = true; };
async function morphInto(picture) {
  const first = morphing;
  $("unpick").onclick();
  await ask({ morph: [first.file, picture.file] }, $("wrong"));
}
$("close").onclick = () => $("large").close();
// No onclick: what that returns would be taken for a word on whether the click goes on to submit the form.
$("large").addEventListener("click", (event) => event.target === $("large") && $("large").close());
$("copy").onclick = async () => {
  try {
    await navigator.clipboard.writeText(open.command);
    $("said").textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren($("command"));
    $("said").textContent = "Selected: copy it with Ctrl-C.";
  }
};
