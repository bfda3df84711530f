// The page: what is asked for stands in `asked`, every change of it asks for a new row, the newest answer wins.
const $ = (id) => document.getElementById(id);
const asked = {
  who: { kind: "own", number: 0, seed: 0 },
  settings: { images: 8, variation: 0, yaw: null, pitch: null, quality: null, way: "auto", spread: "usual", level: null, masks: null },
};
const NAMES = { yaw: "Yaw", pitch: "Pitch", quality: "Quality", sigma: "Sigma", cosine: "Cosine", masks: "Masks", images: "Images" };
const FREE = ["yaw", "pitch", "quality", "masks"]; // as drawn until somebody moves them
const slides = {};
let there = null; // the server's state
let row = null; // the request under way
let pending = 0;

// --- asking -------------------------------------------------------------------------------------------------------

async function ask(path, body, how = {}) {
  const json = !(body instanceof Blob);
  const answer = await fetch(path, {
    method: body === undefined ? "GET" : "POST",
    headers: body === undefined ? {} : { "content-type": json ? "application/json" : "application/octet-stream" },
    body: body === undefined ? undefined : json ? JSON.stringify(body) : body,
    ...how,
  });
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({ words: `The server answered ${answer.status}.` }));
    throw Object.assign(new Error(told.words || "A newer request came first."), { told });
  }
  return answer;
}

function problem(error) {
  if (error.name === "AbortError" || error.told?.kind === "superseded") return;
  const gone = error instanceof TypeError;
  $("problem").textContent = gone ? "The server does not answer: is `v2f ui` still running in its terminal?" : error.message;
  $("problem").hidden = false;
}

function fine() { $("problem").hidden = true; }

// --- a row --------------------------------------------------------------------------------------------------------

function draw(delay = 0) {
  clearTimeout(pending);
  pending = setTimeout(drawNow, delay);
}

async function drawNow() {
  row?.abort();
  const mine = (row = new AbortController());
  fine();
  holes(asked.settings.images);
  $("row").classList.add("old");
  $("row").setAttribute("aria-busy", "true");
  try {
    const answer = await ask("/api/row", asked, { signal: mine.signal });
    for await (const line of lines(answer.body)) {
      if (mine !== row) return;
      (HEARD[line.kind] || (() => {}))(line);
      if (line.kind === "superseded") return;
    }
  } catch (error) {
    if (mine === row) { holes(0); $("status").textContent = ""; problem(error); }
  }
  if (mine !== row) return;
  $("row").classList.remove("old");
  $("row").removeAttribute("aria-busy");
  $("steering").hidden = true;
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    held += value;
    const parts = held.split("\n");
    held = parts.pop();
    for (const part of parts) yield JSON.parse(part);
  }
}

function holes(count) {
  const list = $("row");
  while (list.children.length > count) list.lastChild.remove();
  while (list.children.length < count) {
    const item = document.createElement("li");
    item.innerHTML = '<div class="hole"></div><div class="below"><b></b><span></span></div>';
    list.append(item);
  }
}

let drawn = null; // who the row shows
const WAY = { plain: "", "pose-model": ", turned by the pose model", steering: ", steered" };
const HEARD = {
  begin(line) {
    drawn = { ...line.who, way: line.way };
    $("who").textContent = line.who.name;
    $("about-who").textContent = "\u00a0";
    $("status").textContent = line.way === "steering" ? "Steering: getting ready" : "Drawing";
    keeping();
  },
  progress(line) {
    $("steering").hidden = false;
    $("steering").max = line.most;
    $("steering").value = Math.min(line.iteration, line.most);
    const ready = Math.max(0, line.images - line.left);
    $("status").textContent = `Steering: iteration ${line.iteration} of at most ${line.most}, ${ready} of ${line.images} images there`;
  },
  image(line) {
    const item = $("row").children[line.number];
    if (!item) return;
    let picture = item.querySelector("img");
    if (!picture) {
      picture = document.createElement("img");
      picture.width = picture.height = 112;
      item.firstChild.replaceWith(picture);
    }
    picture.src = line.src;
    picture.style.opacity = 1;
    picture.alt = `Image ${line.number}, cosine ${line.cosine.toFixed(2)}`;
    const [number, note] = item.querySelector(".below").children;
    number.textContent = line.cosine.toFixed(2);
    const reached = line.reached ? Object.entries(line.reached).map(([name, value]) => `${name} ${unit(name, value)}`).join(", ") : "";
    note.className = line.same && !line.failed ? "" : "other";
    note.textContent = line.failed ? "failed" : !line.same ? "another person?" : line.verdict === "FAILED" ? "identity lost" : reached;
  },
  end(line) {
    $("status").textContent = `${$("row").children.length} images${WAY[drawn.way]}, ${line.seconds.toFixed(2)} s`;
    $("about-who").textContent = line.likeness === null ? "" : `cosine of the faces’ centre to the vector ${line.likeness.toFixed(2)}`;
    for (const picture of $("row").querySelectorAll("img")) picture.style.opacity = "";
    drawn.done = true;
    keeping();
    nearest(line.nearest);
  },
  error(line) {
    holes(0);
    $("status").textContent = "";
    problem(new Error(line.words));
  },
};

function nearest(found) {
  $("nearest").hidden = !found;
  if (!found) return;
  $("nearest-own").src = $("row").querySelector("img")?.src || "";
  $("nearest-own").alt = drawn.name;
  $("nearest-other").src = found.src;
  $("nearest-other").alt = found.who.name;
  $("nearest-words").textContent = `${found.who.name}, cosine ${found.cosine.toFixed(2)}`;
  const limit = there.limit.toFixed(3).replace(/0$/, "");
  $("nearest-verdict").textContent = found.rejected
    ? `At or above the model’s limit ${limit}: the later of the two would be rejected.`
    : `Below the model’s limit ${limit}: both would be kept.`;
  $("gauge-value").style.width = `${100 * Math.max(0, found.cosine)}%`;
  $("gauge-limit").style.left = `${100 * there.limit}%`;
  $("gauge-value").parentElement.classList.toggle("over", found.rejected);
}

// --- who ----------------------------------------------------------------------------------------------------------

function go(who) {
  asked.who = { kind: who.kind, number: who.number, seed: who.seed };
  $("number").value = who.number;
  if (who.kind === "own") $("seed").value = who.seed;
  $("seed").disabled = who.kind !== "own";
  for (const radio of document.querySelectorAll("[name=kind]")) radio.checked = radio.value === who.kind;
  if (who.kind !== "face") $("reference").hidden = true;
  draw();
}

function step(by) {
  const most = asked.who.kind === "table" ? there.table - 1 : there.sliders.number.high;
  if (asked.who.kind === "face") return go({ kind: "own", number: 0, seed: Number($("seed").value) || 0 });
  go({ ...asked.who, number: Math.min(most, Math.max(0, asked.who.number + by)) });
}

function typedNumber(input, slider) {
  const value = Math.round(Number(input.value));
  const sound = input.value !== "" && Number.isFinite(value);
  return sound ? Math.min(slider.high, Math.max(slider.low, value)) : null;
}

async function upload(file) {
  fine();
  $("status").textContent = "Looking at the picture";
  try {
    row?.abort();
    const found = await (await ask("/api/face", file)).json();
    $("reference-picture").src = found.src;
    $("reference-words").textContent = found.told.join(" ") || "Aligned already: taken as it is.";
    go(found.who);
    $("reference").hidden = false;
  } catch (error) {
    $("status").textContent = "";
    problem(error);
  }
  $("file").value = "";
}

// --- sliders ------------------------------------------------------------------------------------------------------

function unit(name, value) {
  const step = there.sliders[name].step;
  const text = step >= 1 ? Math.round(value) : value.toFixed(step < 0.5 ? 2 : 1);
  return `${text}${there.sliders[name].unit}`;
}

function build(name) {
  const box = document.querySelector(`.slide[data-name=${name}]`);
  const { low, high, step, begins } = there.sliders[name];
  const free = FREE.includes(name);
  box.classList.toggle("free", free);
  box.innerHTML = `<label for="slide-${name}">${NAMES[name]}</label>
    <input type="range" id="slide-${name}" min="${low}" max="${high}" step="${step}" value="${begins}">
    ${free ? '<button type="button"></button>' : `<output for="slide-${name}"></output>`}`;
  const [, input, said] = box.children;
  const show = (value) => {
    box.classList.toggle("set", value !== null);
    input.value = value ?? begins;
    said.textContent = value === null ? "as drawn" : unit(name, value);
    input.setAttribute("aria-valuetext", said.textContent);
    if (!free) return;
    said.disabled = value === null;
    said.title = value === null ? "" : "As drawn";
    said.setAttribute("aria-label", value === null ? `${NAMES[name]} as drawn` : `${NAMES[name]} ${said.textContent}, back to as drawn`);
  };
  input.addEventListener("input", () => { set(name, Number(input.value)); draw(60); });
  if (free) said.addEventListener("click", () => { set(name, null); draw(); input.focus(); });
  slides[name] = { box, show };
}

function set(name, value) {
  const s = asked.settings;
  if (name === "sigma" || name === "cosine") s.level = value;
  else s[name] = value;
  slides[name].show(value);
  words();
}

function spread(kind) {
  asked.settings.spread = kind;
  for (const name of ["sigma", "cosine"]) slides[name].box.hidden = kind !== name;
  asked.settings.level = kind === "usual" ? null : there.sliders[kind].begins;
  if (kind !== "usual") slides[kind].show(asked.settings.level);
  for (const radio of document.querySelectorAll("[name=spread]")) radio.checked = radio.value === kind;
  words();
}

function words() {
  const s = asked.settings;
  const turned = s.yaw !== null || s.pitch !== null;
  const goals = turned || s.quality !== null;
  $("ways").hidden = !goals;
  const posed = document.querySelector("[name=way][value=pose-model]");
  posed.disabled = !there.pose_model || s.quality !== null;
  if (posed.disabled && s.way === "pose-model") {
    s.way = "auto";
    document.querySelector("[name=way][value=auto]").checked = true;
  }
  const way = s.way !== "auto" ? s.way : there.pose_model && turned && s.pitch === null && s.quality === null ? "pose-model" : "steering";
  $("way-words").textContent = way === "pose-model"
    ? "One pass an image: at once. Right for yaw; pitch comes out at about six tenths of what is asked."
    : "Each image’s vector is optimised until the picture meets the goal: up to 40 iterations, half a minute on two cores.";
  $("spread-words").textContent = s.spread === "usual"
    ? goals && way === "pose-model" ? "The pose model draws without noise unless you choose some." : "Sigma 0.3, 0.5 and 0.7 for 40, 40 and 20 % of the images, as published."
    : s.spread === "sigma" ? "Noise on each entry of the vector: further is another mood, too far another person." : "The cosine of each image’s vector to its person’s.";
}

function reset() {
  for (const name of FREE) set(name, null);
  spread("usual");
  asked.settings.way = "auto";
  document.querySelector("[name=way][value=auto]").checked = true;
  set("images", there.sliders.images.begins);
  asked.settings.variation = 0;
  $("variation").value = 0;
  words();
}

// --- the tray and the set -----------------------------------------------------------------------------------------

const same = (a, b) => a.kind === b.kind && a.number === b.number && a.seed === b.seed;

function keeping() {
  const button = $("keep");
  const kept = drawn && there.tray.some((one) => same(one, drawn));
  button.disabled = !drawn?.done && !kept;
  button.textContent = kept ? "Kept" : "Keep";
  button.setAttribute("aria-pressed", String(Boolean(kept)));
}

function tray() {
  $("tray").replaceChildren(...there.tray.map((one) => {
    const item = document.createElement("li");
    item.innerHTML = '<button type="button" class="face"><img width="112" height="112"></button><button type="button" class="away"><i aria-hidden="true">×</i></button>';
    const [face, away] = item.children;
    face.firstChild.src = one.src;
    face.firstChild.alt = one.name;
    face.title = one.name;
    face.addEventListener("click", () => go(one));
    away.setAttribute("aria-label", `Keep ${one.name} no longer`);
    away.addEventListener("click", () => keep(one, false));
    return item;
  }));
  const count = there.tray.length;
  $("kept-words").textContent = count ? `${count} ${count === 1 ? "person" : "people"}; sets go to ${there.out}` : "Nobody yet: keep a person you like, then write a set of them.";
  $("write").disabled = !count || there.export.status === "running";
  keeping();
}

async function keep(who, wanted) {
  try {
    const answer = await (await ask(wanted ? "/api/keep" : "/api/drop", { who: { kind: who.kind, number: who.number, seed: who.seed } })).json();
    there.tray = there.tray.filter((one) => !same(one, who));
    if (wanted) there.tray.push(answer.card);
    fine();
    tray();
  } catch (error) { problem(error); }
}

function exported(state) {
  there.export = state;
  $("written").hidden = state.status === "none";
  $("stop").hidden = state.status !== "running";
  $("export-progress").max = Math.max(1, state.total);
  $("export-progress").value = state.done;
  const of = `${state.done.toLocaleString("en")} of ${state.total.toLocaleString("en")} pictures`;
  $("export-words").textContent = state.status === "running" ? `${of}, ${state.words}` : state.status === "complete" ? `${state.words}: in ${state.folder}` : `${of}: ${state.words}`;
  $("command").textContent = state.command;
  const where = there.absolute ? `that holds ${there.out}` : "in which v2f ui was started";
  $("command-words").textContent = `Typed in the folder ${where}, this goes on where a stopped set ended; with another --out it writes the same bytes there.`;
  $("write").disabled = !there.tray.length || state.status === "running";
}

async function follow() {
  while (there.export.status === "running") {
    await new Promise((done) => setTimeout(done, 300));
    try { exported(await (await ask("/api/export")).json()); } catch (error) { problem(error); return; }
  }
}

// --- wiring -------------------------------------------------------------------------------------------------------

function listen() {
  $("next").addEventListener("click", () => step(1));
  $("previous").addEventListener("click", () => step(-1));
  $("keep").addEventListener("click", () => drawn && keep(drawn, $("keep").getAttribute("aria-pressed") !== "true"));
  $("reset").addEventListener("click", () => { reset(); draw(); });
  $("file").addEventListener("change", () => $("file").files[0] && upload($("file").files[0]));
  for (const name of ["dragover", "dragleave", "drop"]) {
    $("drop").addEventListener(name, (event) => {
      event.preventDefault();
      $("drop").classList.toggle("over", name === "dragover");
      if (name === "drop" && event.dataTransfer.files[0]) upload(event.dataTransfer.files[0]);
    });
  }
  for (const name of ["number", "seed"]) {
    $(name).addEventListener("change", () => {
      const value = typedNumber($(name), there.sliders[name]);
      const kind = asked.who.kind === "face" && name === "seed" ? "own" : asked.who.kind;
      go({ ...asked.who, kind, ...(value === null ? {} : { [name]: value }) });
    });
  }
  $("variation").addEventListener("change", () => {
    asked.settings.variation = typedNumber($("variation"), there.sliders.variation) ?? 0;
    $("variation").value = asked.settings.variation;
    draw();
  });
  for (const radio of document.querySelectorAll("[name=kind]")) {
    radio.addEventListener("change", () => go({ kind: radio.value, number: 0, seed: radio.value === "own" ? Number($("seed").value) || 0 : 0 }));
  }
  for (const radio of document.querySelectorAll("[name=way]")) {
    radio.addEventListener("change", () => { asked.settings.way = radio.value; words(); draw(); });
  }
  for (const radio of document.querySelectorAll("[name=spread]")) {
    radio.addEventListener("change", () => { spread(radio.value); draw(); });
  }
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("export").addEventListener("submit", async (event) => {
    event.preventDefault();
    fine();
    try {
      const order = { settings: asked.settings, images: Number($("export-images").value), format: $("format").value };
      exported(await (await ask("/api/export", order)).json());
      await follow();
    } catch (error) { problem(error); }
  });
  $("stop").addEventListener("click", () => ask("/api/export/stop", {}).catch(problem));
  $("copy").addEventListener("click", async () => {
    try { await navigator.clipboard.writeText($("command").textContent); } catch {
      const range = document.createRange();
      range.selectNodeContents($("command"));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
    }
    $("copy").textContent = "Copied";
    setTimeout(() => { $("copy").textContent = "Copy"; }, 1500);
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    const does = { ArrowRight: () => step(1), ArrowLeft: () => step(-1), k: () => $("keep").click() }[event.key];
    if (does) { event.preventDefault(); does(); }
  });
}

async function begin() {
  holes(asked.settings.images);
  try { there = await (await ask("/api/state")).json(); } catch (error) { holes(0); problem(error); return; }
  $("model").textContent = `${there.model} · ${there.device === "cpu" ? "CPU" : there.device}`;
  $("mini").hidden = !there.mini;
  $("recogniser").textContent = there.recogniser;
  $("limit-words").textContent = `At ${there.limit} two vectors are one person to this model’s recogniser.`;
  $("kind-table").hidden = !there.table;
  $("kinds").hidden = !there.table;
  $("format").replaceChildren(...there.formats.map((name) => new Option(name, name)));
  for (const name of Object.keys(NAMES)) build(name);
  reset();
  listen();
  tray();
  exported(there.export);
  follow();
  draw();
}

begin();
