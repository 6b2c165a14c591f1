// The board of the front page: the shipped policy pushes the T in the reader's browser, who may move the T.
"use strict";

(() => {  // its names stay its own
const { Board, SIZE, SUCCESS } = globalThis.PushT;
const HORIZON = 300;  // steps after which the evaluator gives an episode up
const SHOWN = 14;  // pairs of tokens
const MOVE = 8, TURN = Math.PI / 18;  // of the T by a key: pixels, radians
const CORNER = 64;  // how far from the T's middle it still lies on the board when it is moved

/** Uniform numbers in [0, 1) from a seed (mulberry32). */
function generator(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A start as gym-pusht draws it: the pusher, and the place and angle of the T. */
function drawStart(uniform) {
  const from = (low, high) => low + (high - low) * uniform();
  return [from(50, 450), from(50, 450), from(100, 400), from(100, 400), from(-Math.PI, Math.PI)];
}

/** Load a script once; rejects when it cannot be loaded. */
function load(address) {
  return new Promise((resolve, reject) => {
    const script = Object.assign(document.createElement("script"), { src: address, onload: resolve, onerror: reject });
    document.head.append(script);
  });
}

class Live {
  constructor(figure) {
    this.figure = figure;
    this.part = (name) => figure.querySelector(`.live-${name}`);
    this.buttons = Object.fromEntries([...figure.querySelectorAll("button")].map((b) => [b.dataset.do, b]));
    this.seed = 0;
    this.playing = false;
    this.listen();
    this.start();
    for (const name of ["controls", "layers"]) this.part(name).hidden = false;
    this.part("board").tabIndex = 0;
    this.part("block").classList.add("live-grip");
    this.say("Press Play, then drag the T away.");
  }

  /** Begin the next start. */
  start() {
    this.seed += 1;
    this.uniform = generator(this.seed);
    this.board = new Board(drawStart(this.uniform));
    this.begin();
  }

  /** Begin an episode with the board as it is. */
  begin() {
    this.policy?.reset();
    this.decision = null;
    this.steps = this.substeps = 0;
    this.tokens = [];
    this.draw();
  }

  say(words) {
    this.part("status").textContent = words;
  }

  /** The policy; its weights are loaded when it is first asked for. */
  async ready() {
    if (this.policy) return true;
    this.say("Loading the policy's weights, 2 MB …");
    try {
      this.loading ??= load(this.figure.dataset.weights);
      await this.loading;
      this.policy = new globalThis.VqBet.Policy(globalThis.POLICY_DATA);
    } catch {
      this.loading = undefined;
      this.say(`The weights could not be loaded from ${this.figure.dataset.weights}; try again.`);
      return false;
    }
    return true;
  }

  async play(playing = !this.playing) {
    if (playing && !(await this.ready())) return;
    if (playing && this.over) this.start();
    this.playing = playing;
    this.buttons.play.textContent = playing ? "Pause" : "Play";
    this.say(playing ? "The policy pushes. Drag the T, and see it recover." : "Paused.");
    if (playing) {
      this.last = performance.now();
      requestAnimationFrame((now) => this.frame(now));
    }
  }

  /** Whether the episode is over: solved, or given up. */
  get over() {
    return this.board.coverage > SUCCESS || this.steps >= HORIZON;
  }

  /** As many tenths of a step as time has passed. */
  frame(now) {
    if (!this.playing) return;
    const due = Math.min(Math.floor((now - this.last) / 10), 10);
    this.last = due === 10 ? now : this.last + 10 * due;
    for (let i = 0; i < due && this.playing && !this.grip; i++) this.substep();
    this.draw();
    if (this.playing) requestAnimationFrame((next) => this.frame(next));
  }

  /** A tenth of a step; a decision before the first, a judgement after the last. */
  substep() {
    if (this.substeps === 0) this.decide();
    this.board.substep(this.decision.next);
    this.substeps = (this.substeps + 1) % 10;
    if (this.substeps > 0) return;
    this.steps += 1;
    if (!this.over) return;
    this.playing = false;
    this.buttons.play.textContent = "Play";
    const solved = this.board.coverage > SUCCESS;
    const how = solved ? `Solved in ${this.steps / 10} s.` : `Not solved in ${HORIZON / 10} s, where the evaluator stops.`;
    this.say(`${how} Drag the T away, or choose a new start.`);
  }

  decide() {
    this.decision = this.policy.decide(this.board.keypoints, this.board.pusher, [this.uniform(), this.uniform()]);
    this.tokens.unshift(this.decision.codes);
    this.tokens.length = Math.min(this.tokens.length, SHOWN);
  }

  /** One whole step. */
  async step() {
    if (this.playing) this.play(false);
    if (!(await this.ready())) return;
    if (this.over) this.start();
    this.say("Paused. Each step is a tenth of a second.");
    do this.substep(); while (this.substeps > 0);
    this.draw();
  }

  /** Put the T's middle to a place, as far as it is on the board, and turn it. */
  move([x, y], turned) {
    const inside = (value) => Math.min(Math.max(value, CORNER), SIZE - CORNER), angle = this.board.pose[2] + turned;
    const [dx, dy] = [-60 * Math.sin(angle), 60 * Math.cos(angle)];  // from the origin to the middle
    this.board.place([inside(x) - dx, inside(y) - dy], angle);
    this.begin();
  }

  /** Where the T's middle is. */
  get middle() {
    const [x, y, angle] = this.board.pose;
    return [x - 60 * Math.sin(angle), y + 60 * Math.cos(angle)];
  }

  nudge(x, y, turned) {
    const [atX, atY] = this.middle;
    this.move([atX + x, atY + y], turned);
  }

  draw() {
    const [x, y, angle] = this.board.pose, pusher = this.board.pusher;
    this.part("block").setAttribute("transform", `translate(${x} ${y}) rotate(${(angle * 180) / Math.PI})`);
    this.part("pusher").setAttribute("cx", pusher[0]);
    this.part("pusher").setAttribute("cy", pusher[1]);
    const path = (points) => (points ? [pusher, ...points].map((p) => p.map((v) => v.toFixed(1)).join()).join(" ") : "");
    this.part("chunk").setAttribute("points", path(this.decision?.actions));
    this.part("decoded").setAttribute("points", path(this.decision?.decoded));
    const covered = Math.round(100 * this.board.coverage);
    this.part("numbers").textContent = `Start ${this.seed} · ${(this.steps / 10).toFixed(1)} s · ${covered} % of the goal covered`;
    this.part("tokens").replaceChildren(...this.tokens.map((codes) => {
      return Object.assign(document.createElement("li"), { textContent: codes.join(" ") });
    }));
    this.drawLayers();
  }

  /** The bars of the codes' probabilities. */
  drawLayers() {
    const bars = (this.decision?.probabilities ?? []).flatMap((layer, g) => layer.map((probability, code) => {
      const chosen = this.decision.codes[g] === code, height = Math.max(46 * probability, 0.5), left = 104 * g + 12 * code;
      return `<rect class="${chosen ? "live-chosen" : ""}" x="${left}" y="${48 - height}" width="9" height="${height}"/>`
        + `<text x="${left + 4.5}" y="58">${code}</text>`;
    }));
    this.part("layers").querySelector("svg").innerHTML = bars.join("");
  }

  listen() {
    const doing = {
      play: () => this.play(),
      step: () => this.step(),
      start: () => { this.start(); if (!this.playing) this.say("A new start. Press Play."); },
      left: () => this.nudge(0, 0, -TURN),
      right: () => this.nudge(0, 0, TURN),
    };
    for (const [name, button] of Object.entries(this.buttons)) button.addEventListener("click", doing[name]);
    const keys = {
      ArrowLeft: () => this.nudge(-MOVE, 0, 0), ArrowRight: () => this.nudge(MOVE, 0, 0),
      ArrowUp: () => this.nudge(0, -MOVE, 0), ArrowDown: () => this.nudge(0, MOVE, 0),
      q: doing.left, e: doing.right, " ": doing.play,
    };
    this.part("board").addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey || !keys[event.key]) return;
      event.preventDefault();
      keys[event.key]();
    });
    this.listenToPointer();
  }

  /** The T follows the pointer that has gripped it; then the policy goes on. */
  listenToPointer() {
    const svg = this.part("board").querySelector("svg"), block = this.part("block");
    const at = (event) => {
      const box = svg.getBoundingClientRect();
      return [((event.clientX - box.left) / box.width) * SIZE, ((event.clientY - box.top) / box.height) * SIZE];
    };
    block.addEventListener("pointerdown", (event) => {
      const [x, y] = at(event), [atX, atY] = this.middle;
      this.grip = [atX - x, atY - y];
      block.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    block.addEventListener("pointermove", (event) => {
      if (!this.grip) return;
      const [x, y] = at(event);
      this.move([x + this.grip[0], y + this.grip[1]], 0);
    });
    for (const name of ["pointerup", "pointercancel"]) {
      block.addEventListener(name, () => {
        if (!this.grip) return;
        this.grip = null;
        if (this.policy && !this.playing) this.play(true);
      });
    }
  }
}

/** Play as soon as the board is seen, unless the reader wants less motion or less data; pause out of sight. */
function playInSight(live) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches || navigator.connection?.saveData) return;
  let wanted = true;
  new IntersectionObserver(([entry]) => {
    if (entry.isIntersecting && wanted) live.play(true);
    if (!entry.isIntersecting) {
      wanted = live.playing;
      if (live.playing) live.play(false);
    }
  }, { threshold: 0.4 }).observe(live.part("board"));
}

document.querySelectorAll(".live").forEach((figure) => playInSight(new Live(figure)));
})();
