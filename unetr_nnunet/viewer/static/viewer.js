// The viewer's page: one NiiVue for the three planes, one for the 3-D view of a label map.
"use strict";

const $ = (id) => document.getElementById(id);
const LABEL_INTENT = 1002; // NIfTI's code for label maps
const FAINT = 0.004; // NiiVue draws rims of a drawing only where its inside is drawn too
const LABELS = 256;

let study; // study.json
// The case that is shown: { index, ct, masks: {layer: promise of its NVImage}, voxels: {layer: labels}, occurring: {layer:
// 1 for each label that it holds}, outlined: NVImage, solidLayer }. The server sends every volume in RAS order.
let current = null;
let loading = 0; // counts cases asked for, so that a late answer is not taken for a newer one
const shown = { fill: new Set(), outline: null, solid: null };
const hidden = new Set(); // names of organs that are switched off

const COMMON = {
  backColor: [0, 0, 0, 1],
  dragAndDropEnabled: false,
  loadingText: "",
  logLevel: "error",
  viewModeHotKey: "",
  clipPlaneHotKey: "",
  cycleClipPlaneHotKey: "",
  show3Dcrosshair: false,
};
const planes = new niivue.Niivue({
  ...COMMON,
  crosshairColor: [1, 1, 1, 0.6],
  crosshairWidth: 1,
  crosshairWidthUnit: "mm",
  crosshairGap: 8,
  isRadiologicalConvention: true,
  sagittalNoseLeft: true,
  multiplanarShowRender: niivue.SHOW_RENDER.NEVER,
  multiplanarLayout: niivue.MULTIPLANAR_TYPE.GRID,
});
const solid = new niivue.Niivue({ ...COMMON, isOrientCube: true, sliceType: niivue.SLICE_TYPE.RENDER });
const FROM_THE_FRONT = [180, 10]; // azimuth and elevation, degrees
window.viewer = { planes, solid };

// ---- words ----------------------------------------------------------------------------------------------------------

const words = new Map(); // by what they are about

function say(about, text) {
  if (text) words.set(about, text);
  else words.delete(about);
  $("message").textContent = [...words.values()].join("\n");
  $("message").hidden = words.size === 0;
}

let pending = 0;

function working(by) {
  pending += by;
  document.querySelector("main").setAttribute("aria-busy", String(pending > 0));
}

// ---- volumes --------------------------------------------------------------------------------------------------------

async function fetchVolume(path) {
  const response = await fetch(path);
  if (!response.ok) {
    const problem = await response.json().catch(() => ({ error: `the server answered ${response.status}` }));
    throw new Error(problem.error);
  }
  const image = await niivue.NVImage.new(await response.arrayBuffer(), "volume.nii");
  return { image, word: decodeURIComponent(response.headers.get("X-Word") || "") };
}

function colours(layer) {
  const lut = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
  for (const { label, name, colour } of study.layers[layer].labels) {
    lut.R.push(colour[0]);
    lut.G.push(colour[1]);
    lut.B.push(colour[2]);
    lut.A.push(hidden.has(name) ? 0 : 255);
    lut.I.push(label);
    lut.labels.push(name);
  }
  return lut;
}

function inColours(image, layer) {
  image.hdr.intent_code = LABEL_INTENT;
  image.setColormapLabel(colours(layer));
  return image;
}

function mask(layer) {
  // The label map of a layer for the case that is shown; null where it has none, or none that can be read.
  const at = current;
  if (!at || layer === null || !study.cases[at.index].layers.includes(layer)) return null;
  at.masks[layer] ??= fetchVolume(`case/${at.index}/mask/${layer}.nii`).then(
    ({ image, word }) => {
      if (at === current && word) say(`mask ${layer}`, `${study.layers[layer].title}: ${word}`);
      at.voxels[layer] = image.img;
      at.occurring[layer] = new Uint8Array(LABELS);
      for (const label of image.img) at.occurring[layer][label] = 1;
      return inColours(image, layer);
    },
    (error) => {
      if (at === current) say(`mask ${layer}`, `${study.layers[layer].title}: ${error.message}`);
      return null;
    },
  );
  return at.masks[layer];
}

// ---- what is drawn ----------------------------------------------------------------------------------------------------

const opacity = () => Number($("opacity").value) / 100;

let queue = Promise.resolve();

function draw() {
  working(1);
  queue = queue
    .then(drawNow)
    .catch((error) => say("drawing", error.message))
    .finally(() => working(-1));
  return queue;
}

async function drawNow() {
  const at = current;
  if (!at) return;
  const fills = new Map();
  for (const layer of [...shown.fill].sort((a, b) => a - b)) {
    const image = await mask(layer);
    if (image) fills.set(image, layer);
  }
  const outline = await mask(shown.outline);
  const model = await mask(shown.solid);
  if (at !== current) return;
  for (const image of planes.volumes.slice(1)) if (!fills.has(image)) planes.removeVolume(image);
  for (const [image, layer] of fills) {
    inColours(image, layer);
    image.opacity = opacity();
    if (!planes.volumes.includes(image)) planes.addVolume(image);
  }
  drawOutline(outline);
  listOrgans();
  readOut();
  await drawSolid(at, model ? shown.solid : null);
}

function drawOutline(image) {
  if (image !== current.outlined) {
    current.outlined = image;
    if (planes.drawBitmap) planes.closeDrawing();
    planes.drawOpacity = FAINT;
    planes.drawRimOpacity = 1;
    if (image) planes.loadDrawing(image);
  }
  if (image) planes.setDrawColormap(colours(shown.outline)); // draws the rest, too
  else planes.updateGLVolume();
}

function setOpacity() {
  for (const image of planes.volumes.slice(1)) image.opacity = opacity();
  if (current) planes.updateGLVolume();
}

async function drawSolid(at, layer) {
  $("solid-frame").hidden = layer === null;
  $("solid-title").textContent = layer === null ? "" : study.layers[layer].title;
  if (layer !== at.solidLayer) {
    at.solidLayer = layer;
    for (const image of [...solid.volumes]) solid.removeVolume(image);
    if (layer === null) return;
    const { image } = await fetchVolume(`case/${at.index}/mask/${layer}/coarse.nii`);
    if (at !== current) return;
    placeSolid();
    if (!solid.canvas) {
      await solid.attachToCanvas($("solid"));
      await solid.setVolumeRenderIllumination(0.6);
      solid.setRenderAzimuthElevation(...FROM_THE_FRONT);
    }
    solid.addVolume(inColours(image, layer));
  }
  if (solid.volumes.length) {
    inColours(solid.volumes[0], layer);
    solid.updateGLVolume();
  }
}

function placeSolid() {
  // The 3-D view takes the corner that the three planes leave free.
  const tile = (plane) => planes.screenSlices.find((each) => each.axCorSag === plane)?.leftTopWidthHeight;
  const [axial, sagittal] = [tile(niivue.SLICE_TYPE.AXIAL), tile(niivue.SLICE_TYPE.SAGITTAL)];
  if (!axial || !sagittal) return;
  const perPixel = $("planes").clientWidth / $("planes").width;
  $("solid-frame").style.left = `${(axial[0] + axial[2]) * perPixel}px`;
  $("solid-frame").style.top = `${(sagittal[1] + sagittal[3]) * perPixel}px`;
}

function setWindow() {
  const [level, width] = [Number($("level").value), Math.max(1, Number($("width").value))];
  if (!current || !Number.isFinite(level) || !Number.isFinite(width)) return;
  current.ct.cal_min = level - width / 2;
  current.ct.cal_max = level + width / 2;
  planes.updateGLVolume();
}

// ---- cases ----------------------------------------------------------------------------------------------------------

function showCase(index, place = null) {
  working(1);
  return loadCase(index, place).finally(() => working(-1));
}

async function loadCase(index, place) {
  const number = ++loading;
  const name = study.cases[index].name;
  $("cases").value = String(index);
  document.title = `${name} - unetr_nnunet view`;
  words.clear();
  say("case", `loading ${name} ...`);
  let ct;
  try {
    ct = (await fetchVolume(`case/${index}/ct.nii`)).image;
  } catch (error) {
    if (number !== loading) return;
    clear();
    say("case", `${name}: ${error.message}`);
    return;
  }
  if (number !== loading) return;
  clear();
  current = { index, ct, masks: {}, voxels: {}, occurring: {}, outlined: null, solidLayer: null };
  planes.addVolume(ct);
  setWindow();
  say("case", "");
  goTo(place ?? ct.vox2mm(ct.dimsRAS.slice(1, 4).map((length) => Math.floor(length / 2)), ct.matRAS));
  history.replaceState(null, "", `#case=${encodeURIComponent(name)}`);
  listLayers();
  await draw();
}

function clear() {
  current = null;
  if (planes.drawBitmap) planes.closeDrawing();
  for (const view of [planes, solid]) for (const image of [...view.volumes].reverse()) view.removeVolume(image);
  $("readout").textContent = "";
  $("organs").replaceChildren();
}

function goTo(mm) {
  // A place (x, y, z) in mm to the patient's right, front and head, as NIfTI counts.
  planes.scene.crosshairPos = planes.mm2frac(mm);
  planes.drawScene();
  readOut();
}

function goToOrgan(name) {
  // The voxel of the organ that is nearest to its centre, in the first label map that has it.
  for (const [layer, voxels] of Object.entries(current.voxels)) {
    const label = study.layers[layer].labels.find((each) => each.name === name)?.label;
    if (!current.occurring[layer][label]) continue;
    const centre = [0, 0, 0];
    let count = 0;
    forEachVoxel(voxels, label, (...place) => {
      count += 1;
      place.forEach((value, axis) => (centre[axis] += (value - centre[axis]) / count));
    });
    let nearest = null;
    let least = Infinity;
    forEachVoxel(voxels, label, (...place) => {
      const distance = place.reduce((sum, value, axis) => sum + (value - centre[axis]) ** 2, 0);
      if (distance < least) [nearest, least] = [place, distance];
    });
    goTo(current.ct.vox2mm(nearest, current.ct.matRAS));
    return;
  }
}

function forEachVoxel(voxels, label, visit) {
  const [, width, height] = current.ct.dimsRAS;
  for (let at = voxels.indexOf(label); at >= 0; at = voxels.indexOf(label, at + 1)) {
    visit(at % width, Math.floor(at / width) % height, Math.floor(at / (width * height)));
  }
}

function readOut() {
  if (!current) return;
  const mm = [...planes.frac2mm(planes.scene.crosshairPos)].slice(0, 3);
  const voxel = current.ct.mm2vox(mm);
  const size = current.ct.dimsRAS;
  const at = voxel[0] + size[1] * (voxel[1] + size[2] * voxel[2]);
  const sides = [["R", "L"], ["A", "P"], ["S", "I"]];
  const place = mm.map((value, axis) => `${sides[axis][value < 0 ? 1 : 0]} ${Math.abs(value).toFixed(1)}`).join("  ");
  const parts = [document.createTextNode(`${place} mm   ${current.ct.img[at]} HU`)];
  for (const [layer, voxels] of Object.entries(current.voxels)) {
    const { title, labels } = study.layers[layer];
    const name = document.createElement("b");
    name.textContent = labels.find((each) => each.label === voxels[at])?.name ?? "-";
    parts.push(document.createTextNode(`   ${title}: `), name);
  }
  $("readout").replaceChildren(...parts);
}

// ---- lists ----------------------------------------------------------------------------------------------------------

function element(kind, properties, ...children) {
  const made = Object.assign(document.createElement(kind), properties);
  made.append(...children);
  return made;
}

function listCases() {
  const wanted = $("filter").value.toLowerCase();
  const options = study.cases
    .map((each, index) => element("option", { value: String(index), textContent: each.name }))
    .filter((option) => option.textContent.toLowerCase().includes(wanted));
  $("cases").replaceChildren(...options);
  $("count").textContent = wanted ? `${options.length} of ${study.cases.length}` : String(study.cases.length);
  if (current) $("cases").value = String(current.index);
}

function listLayers() {
  $("layers-section").hidden = study.layers.length === 0;
  const rows = study.layers.map(({ title }, layer) => {
    const absent = current && !study.cases[current.index].layers.includes(layer);
    const boxes = [
      ["fill", shown.fill.has(layer)],
      ["outline", shown.outline === layer],
      ["solid", shown.solid === layer],
    ].map(([how, checked]) => {
      const box = element("input", { type: "checkbox", checked, id: `${how}-${layer}` });
      box.setAttribute("aria-label", `${how === "solid" ? "3-D" : how} of ${title}`);
      box.addEventListener("change", () => choose(how, layer, box.checked));
      return element("td", {}, box);
    });
    const name = element("td", { textContent: absent ? `${title} (none for this case)` : title });
    return element("tr", { className: absent ? "absent" : "" }, name, ...boxes);
  });
  $("layers").tBodies[0].replaceChildren(...rows);
}

function choose(how, layer, on) {
  if (how === "fill") shown.fill[on ? "add" : "delete"](layer);
  else shown[how] = on ? layer : null;
  const focused = document.activeElement?.id;
  listLayers();
  $(focused)?.focus();
  return draw();
}

function listOrgans() {
  const found = new Map(); // name: entry, of labels that occur
  for (const [layer, occurring] of Object.entries(current?.occurring ?? {})) {
    for (const entry of study.layers[layer].labels) if (occurring[entry.label]) found.set(entry.name, entry);
  }
  const entries = [...found.values()].sort((a, b) => a.label - b.label);
  $("organs-section").hidden = entries.length === 0;
  const focused = document.activeElement?.id;
  $("organs").replaceChildren(
    ...entries.map(({ name, colour }) => {
      const box = element("input", { type: "checkbox", checked: !hidden.has(name), id: `organ ${name}` });
      box.setAttribute("aria-label", `show ${name}`);
      box.addEventListener("change", () => {
        hidden[box.checked ? "delete" : "add"](name);
        draw();
      });
      const swatch = element("span", { className: "swatch" });
      swatch.style.backgroundColor = `rgb(${colour.join(",")})`;
      const button = element("button", { type: "button", textContent: name, title: `go to ${name}` });
      button.addEventListener("click", () => goToOrgan(name));
      return element("li", {}, box, swatch, button);
    }),
  );
  $(focused)?.focus();
}

// ---- what the reader does -------------------------------------------------------------------------------------------

function step(by) {
  const options = [...$("cases").options].map((option) => Number(option.value));
  const next = options[options.indexOf(current?.index) + by];
  if (next !== undefined) showCase(next);
}

let lastOutline = null;

function onKey(event) {
  const typing = event.target.matches("input:not([type=checkbox]):not([type=range]), select");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const layer = Number(event.key) - 1;
  if (layer in study.layers) choose("fill", layer, !shown.fill.has(layer));
  else if (event.key === "n") step(1);
  else if (event.key === "p") step(-1);
  else if (event.key === "o" && (shown.outline ?? lastOutline) !== null) {
    lastOutline = shown.outline ?? lastOutline;
    choose("outline", lastOutline, shown.outline === null);
  } else return;
  event.preventDefault();
}

function placeInAddress() {
  // #case=NAME, and perhaps &at=x,y,z in mm: a link to a place in a case.
  const given = new URLSearchParams(location.hash.slice(1));
  const index = study.cases.findIndex((each) => each.name === given.get("case"));
  const mm = (given.get("at") ?? "").split(",").map(Number);
  return { index: Math.max(0, index), place: mm.length === 3 && mm.every(Number.isFinite) ? mm : null };
}

function listen() {
  $("filter").addEventListener("input", listCases);
  $("cases").addEventListener("change", (event) => showCase(Number(event.target.value)));
  $("opacity").addEventListener("input", setOpacity);
  $("window").addEventListener("change", (event) => {
    if (!event.target.value) return;
    [$("level").value, $("width").value] = event.target.value.split(",");
    setWindow();
  });
  for (const id of ["level", "width"]) {
    $(id).addEventListener("input", () => {
      $("window").value = "";
      setWindow();
    });
  }
  const names = () => [...$("organs").querySelectorAll("button")].map((button) => button.textContent);
  $("all").addEventListener("click", () => (hidden.clear(), draw()));
  $("none").addEventListener("click", () => (names().forEach((name) => hidden.add(name)), draw()));
  document.addEventListener("keydown", onKey);
  window.addEventListener("hashchange", () => {
    const { index, place } = placeInAddress();
    if (index !== current?.index) showCase(index, place);
    else if (place) goTo(place);
  });
  planes.onLocationChange = readOut;
  new ResizeObserver(() => requestAnimationFrame(placeSolid)).observe($("planes"));
}

async function start() {
  study = await (await fetch("study.json")).json();
  const truth = study.layers.findIndex((layer) => layer.is_truth);
  const first = study.layers.findIndex((layer) => !layer.is_truth);
  if (truth >= 0) shown.outline = truth;
  if (first >= 0) shown.fill.add(first);
  else if (truth >= 0) shown.fill.add(truth);
  shown.solid = first >= 0 ? first : truth >= 0 ? truth : null;
  [$("level").value, $("width").value] = $("window").value.split(",");
  await planes.attachToCanvas($("planes"));
  listCases();
  listLayers();
  listen();
  const { index, place } = placeInAddress();
  await showCase(index, place);
}

start().catch((error) => say("start", `The viewer cannot start: ${error.message}. It needs a browser with WebGL 2.`));
