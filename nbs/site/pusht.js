// PushT in the browser: the board of gym-pusht, simulated as Chipmunk 7 does it below pymunk.
//
// A round pusher follows a PD controller; nothing stops it. A T of two boxes is pushed by it and stopped by four
// walls. There is no friction, no bouncing, and a velocity of the T is gone after one step of 0.01 s. So a step is:
// move by the velocities, find the contacts, and solve for impulses along their normals (10 rounds, one contact after
// the other), both for the velocities and for the "bias" velocities, which push overlapping bodies apart.
// Chipmunk takes the contacts in the order in which it finds them; here that order is fixed. So the two agree to rounding
// until the pusher presses the T against a wall, and nearly from then on.
// Lengths are pixels, times seconds, angles radians; y points down the screen.
"use strict";

(() => {  // its names stay its own
const SIZE = 512;
const PUSHER_RADIUS = 15;
const GOAL = [256, 256, Math.PI / 4];  // x, y, angle of the T's origin
const SUCCESS = 0.95;  // the coverage above which PushT is solved
const BOXES = [
  [[-60, 0], [60, 0], [60, 30], [-60, 30]],
  [[-15, 30], [15, 30], [15, 120], [-15, 120]],
];  // the bar and the stem of the T from its origin, each with its interior to the left of its edges
const OUTLINE = [[-60, 0], [60, 0], [60, 30], [-60, 30], [-15, 30], [15, 30], [15, 120], [-15, 120]];  // the keypoints

const CENTRE = [0, 45];  // the T's centre of gravity, from its origin
const INVERSE_MASS = 1, INVERSE_INERTIA = 1 / 3000;
const DT = 0.01, SUBSTEPS = 10;  // ten steps of the physics for an action
const ROUNDS = 10, PERSISTENCE = 3;
const SLOP = Math.fround(0.1), BIAS = 1 - Math.pow(Math.pow(Math.fround(0.9), 60), DT);  // Chipmunk's are float32
const WALL_RADIUS = 2;
const WALLS = [[[5, 506], [5, 5]], [[5, 5], [506, 5]], [[506, 5], [506, 506]], [[5, 506], [506, 506]]];

const add = (p, q) => [p[0] + q[0], p[1] + q[1]];
const subtract = (p, q) => [p[0] - q[0], p[1] - q[1]];
const scale = (p, s) => [p[0] * s, p[1] * s];
const dot = (p, q) => p[0] * q[0] + p[1] * q[1];
const cross = (p, q) => p[0] * q[1] - p[1] * q[0];
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const between = (p, q, t) => [p[0] * (1 - t) + q[0] * t, p[1] * (1 - t) + q[1] * t];
const rotate = (p, angle) => {
  const c = Math.cos(angle), s = Math.sin(angle);
  return [c * p[0] - s * p[1], s * p[0] + c * p[1]];
};

/** The unit normal to the right of the direction from p to q: outwards, for an edge of a box. */
function normalOf(p, q) {
  const [x, y] = subtract(q, p), length = Math.hypot(x, y);
  return [y / length, -x / length];
}

/** The index of the point that lies farthest in a direction. */
function farthest(points, direction) {
  let best = 0;
  for (let i = 1; i < points.length; i++) {
    if (dot(points[i], direction) > dot(points[best], direction)) best = i;
  }
  return best;
}

/** Where a box comes closest to `other`, one point or the two ends of a segment.
 *
 * Returns {n, d, a, b}: the unit normal from `other` to the box, their distance (negative where they overlap: how far
 * one must move), and the two closest points. It looks at every edge of the box seen from `other` (the Minkowski
 * difference); Chipmunk finds the same edge by GJK and EPA. */
function closest(other, box) {
  const faces = box.map((p, i) => {
    const q = box[(i + 1) % box.length], m = normalOf(p, q), a = other[farthest(other, m)];
    return { m, a: [a, a], b: [p, q] };
  });
  if (other.length === 2) {
    for (const [p, q] of [[other[0], other[1]], [other[1], other[0]]]) {
      const m = normalOf(p, q), b = box[farthest(box, m)];
      faces.push({ m, a: [q, p], b: [b, b] });
    }
  }
  for (const face of faces) face.depth = dot(face.m, subtract(face.b[0], face.a[0]));
  const inside = faces.every((face) => face.depth >= 0);
  let best = null;
  for (const { m, a, b, depth } of faces) {
    const p = subtract(b[0], a[0]), edge = subtract(subtract(b[1], a[1]), p);
    const t = clamp(-dot(p, edge) / dot(edge, edge), 0, 1), nearest = add(p, scale(edge, t));
    const distance = inside ? depth : Math.hypot(nearest[0], nearest[1]);
    if (best !== null && distance >= best.distance) continue;
    const corner = !inside && (t === 0 || t === 1);
    const n = corner ? scale(nearest, 1 / distance) : scale(m, -1);
    best = { distance, n, d: dot(n, nearest), a: between(a[0], a[1], t), b: between(b[0], b[1], t) };
  }
  return best;
}

/** The contact [p1, p2, name] of the pusher with a box: a point on the surface of each; none while they are apart. */
function pusherContacts(centre, box) {
  const { n, d, b } = closest([centre], box);
  return { n, contacts: d <= PUSHER_RADIUS ? [[add(centre, scale(n, PUSHER_RADIUS)), b, "0"]] : [] };
}

/** The contacts of a wall with a box: the ends of the overlap of their edges, at most two. */
function wallContacts(wall, box) {
  const { n, d } = closest(wall, box);
  if (d > WALL_RADIUS) return { n, contacts: [] };
  const facing = dot(normalOf(wall[0], wall[1]), n) > 0 ? [0, 1] : [1, 0];
  const [e1a, e1b] = [wall[facing[0]], wall[facing[1]]];
  const back = scale(n, -1), i = farthest(box, back), before = (i + 3) % 4, after = (i + 1) % 4;
  const isBefore = dot(back, normalOf(box[before], box[i])) > dot(back, normalOf(box[i], box[after]));
  const of = isBefore ? [before, i] : [i, after], [e2a, e2b] = [box[of[0]], box[of[1]]];
  const [d1a, d1b, d2a, d2b] = [e1a, e1b, e2a, e2b].map((p) => cross(p, n));
  const contacts = [];
  for (const [on1, on2, name] of [[d2b, d1a, `${facing[0]},${of[1]}`], [d2a, d1b, `${facing[1]},${of[0]}`]]) {
    const p1 = add(between(e1a, e1b, clamp((on1 - d1a) / (d1b - d1a), 0, 1)), scale(n, WALL_RADIUS));
    const p2 = between(e2a, e2b, clamp((on2 - d2a) / (d2b - d2a + Number.MIN_VALUE), 0, 1));
    if (dot(subtract(p2, p1), n) <= 0) contacts.push([p1, p2, name]);
  }
  return { n, contacts };
}

class Board {
  /** A board on which nothing moves; start: x and y of the pusher, x, y and angle of the T's origin, as gym-pusht's
   * `reset` takes them: it turns the T about its centre of gravity, then makes one step. */
  constructor([x, y, blockX, blockY, angle]) {
    this.pusher = [x, y];
    this.velocity = [0, 0];  // of the pusher
    this.centre = add([blockX, blockY], CENTRE);  // where the T's centre of gravity is
    this.angle = angle;
    this.rest();
    this.move();
  }

  /** Stop the T and forget its contacts. */
  rest() {
    this.v = [0, 0];  // of the T: velocity, turning, and the same of the bias
    this.w = 0;
    this.vBias = [0, 0];
    this.wBias = 0;
    this.contacts = new Map();  // {pair: {stamp, cached, impulses: {name: impulse}}}
    this.stamp = 0;
  }

  /** Put the T's origin to a place and angle. */
  place([x, y], angle) {
    this.centre = add([x, y], rotate(CENTRE, angle));
    this.angle = angle;
    this.rest();
  }

  /** x, y of the T's origin, and its angle. */
  get pose() {
    return [...subtract(this.centre, rotate(CENTRE, this.angle)), this.angle];
  }

  /** The 16 numbers of the T's keypoints, as the policy observes them. */
  get keypoints() {
    return placed(OUTLINE, this.pose).flat();
  }

  /** The share of the goal that the T covers, 0..1. */
  get coverage() {
    return overlap(BOXES.map((box) => placed(box, this.pose)), BOXES.map((box) => placed(box, GOAL))) / 6300;
  }

  /** One action, the place where the pusher is to go: 0.1 s. */
  step(action) {
    for (let i = 0; i < SUBSTEPS; i++) this.substep(action);
  }

  /** A tenth of an action: 0.01 s of the PD controller and of the physics. */
  substep(action) {
    const pull = subtract(scale(subtract(action, this.pusher), 100), scale(this.velocity, 20));
    this.velocity = add(this.velocity, scale(pull, DT));
    this.move();
  }

  /** 0.01 s of the physics. */
  move() {
    this.pusher = add(this.pusher, scale(this.velocity, DT));
    this.centre = add(this.centre, scale(add(this.v, this.vBias), DT));
    this.angle += (this.w + this.wBias) * DT;
    this.v = [0, 0];  // damping
    this.w = 0;
    this.vBias = [0, 0];
    this.wBias = 0;
    const contacts = this.findContacts();
    for (const contact of contacts) {
      if (contact.again) this.push(contact, contact.impulse);
    }
    for (let round = 0; round < ROUNDS; round++) contacts.forEach((contact) => this.solve(contact));
    for (const contact of contacts) contact.impulses.set(contact.name, contact.impulse);
  }

  /** Every contact of this moment, with the impulse that it ended with at the step before. */
  findContacts() {
    this.stamp += 1;
    const found = [];
    BOXES.forEach((box, i) => {
      const points = placed(box, this.pose);
      this.meet(found, `pusher, ${i}`, pusherContacts(this.pusher, points), this.velocity);
      WALLS.forEach((wall, j) => this.meet(found, `wall ${j}, ${i}`, wallContacts(wall, points), [0, 0]));
    });
    for (const [pair, known] of this.contacts) {
      if (this.stamp - known.stamp >= 1) known.cached = true;
      if (this.stamp - known.stamp >= PERSISTENCE) this.contacts.delete(pair);
    }
    return found;
  }

  /** Add the contacts of a pair to those found; `moving` is the velocity of what the T meets. */
  meet(found, pair, { n, contacts }, moving) {
    if (contacts.length === 0) return;
    const known = this.contacts.get(pair), impulses = new Map();
    this.contacts.set(pair, { stamp: this.stamp, cached: false, impulses });
    for (const [p1, p2, name] of contacts) {
      const arm = subtract(p2, this.centre), lever = cross(arm, n);
      found.push({
        n, arm, lever, moving, name, impulses,
        mass: 1 / (INVERSE_MASS + INVERSE_INERTIA * lever * lever),
        bias: (-BIAS * Math.min(0, dot(subtract(p2, p1), n) + SLOP)) / DT,
        biasImpulse: 0,
        impulse: known?.impulses.get(name) ?? 0,
        again: known !== undefined && !known.cached,
      });
    }
  }

  /** One round for one contact: the impulses after which the T does not move into what it meets. */
  solve(contact) {
    const { n, lever, mass, bias, moving } = contact;
    const biasBefore = contact.biasImpulse, before = contact.impulse;
    contact.biasImpulse = Math.max(biasBefore + (bias - dot(this.vBias, n) - lever * this.wBias) * mass, 0);
    contact.impulse = Math.max(before - (dot(subtract(this.v, moving), n) + lever * this.w) * mass, 0);
    const change = contact.biasImpulse - biasBefore;
    this.vBias = add(this.vBias, scale(n, change * INVERSE_MASS));
    this.wBias += change * INVERSE_INERTIA * lever;
    this.push(contact, contact.impulse - before);
  }

  /** Let an impulse along the normal of a contact act on the T. */
  push({ n, lever }, impulse) {
    this.v = add(this.v, scale(n, impulse * INVERSE_MASS));
    this.w += impulse * INVERSE_INERTIA * lever;
  }
}

/** Points of the T at a pose. */
function placed(points, [x, y, angle]) {
  return points.map((point) => add(rotate(point, angle), [x, y]));
}

/** The area that two lists of boxes share; the boxes of a list do not overlap. */
function overlap(some, others) {
  let area = 0;
  for (const box of some) {
    for (const other of others) {
      let shape = box;
      other.forEach((p, i) => { shape = cutOff(shape, p, other[(i + 1) % other.length]); });
      area += shape.reduce((sum, p, i) => sum + cross(p, shape[(i + 1) % shape.length]) / 2, 0);
    }
  }
  return area;
}

/** What of a convex shape lies to the left of the line from p to q. */
function cutOff(shape, p, q) {
  const side = (r) => cross(subtract(q, p), subtract(r, p)), kept = [];
  shape.forEach((r, i) => {
    const next = shape[(i + 1) % shape.length], here = side(r), there = side(next);
    if (here >= 0) kept.push(r);
    if (here * there < 0) kept.push(between(r, next, here / (here - there)));
  });
  return kept;
}

globalThis.PushT = { Board, SIZE, SUCCESS };
})();
