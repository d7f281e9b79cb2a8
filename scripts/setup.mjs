/**
 * Makes `npm start`, `npm test` and the others work in a fresh clone, whatever Node from 20 on started them: installs
 * what package-lock.json says when it is not there, under Node 24, and costs next to nothing when it is. npm then puts
 * node_modules/.bin first in PATH, where the package `node` has Node 24. It runs before anything is installed, so: no
 * dependencies, no TypeScript. This file is all that an ancient Node gets to see, so: no modern syntax either.
 */
const major = Number(process.versions.node.split('.')[0]);

if (major < 20) {
  console.error(`ringback: Node ${process.version} is too old. Install Node 24 (or any from 20 on) and try again.`);
  process.exitCode = 1;
} else {
  void import('./setup/main.mjs').then(({ setUp }) => setUp());
}
