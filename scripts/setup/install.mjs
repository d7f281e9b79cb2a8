import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { basename, delimiter, dirname, join, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fs.realpathSync(join(dirname(fileURLToPath(import.meta.url)), '..', '..'));
export const MODULES = join(ROOT, 'node_modules');
export const WANTED_MAJOR = 24;

/** A failure whose message is for people, and enough. */
export class SetupError extends Error {}

export const say = (line) => process.stderr.write(`ringback: ${line}\n`);
export const majorOf = (version) => Number(/^v?(\d+)\./.exec(version)?.[1] ?? 0);

/** Makes node_modules what package-lock.json says. */
export async function install() {
  const outer = findNode();
  const npm = findNpm(outer);
  const isOld = majorOf(versionOf(outer)) < WANTED_MAJOR;
  say(`installing the dependencies with npm ci under Node ${WANTED_MAJOR}; this takes about half a minute ...`);
  const node = isOld ? await fetchNode(outer, npm) : outer;
  await runNpm(node, npm, ['ci', ...CI_FLAGS]);
}

/** Whatever the user's npmrc or NODE_ENV=production say: everything, with its scripts, laid out as the lock file has it. */
const CI_FLAGS = [
  '--include=dev',
  '--include=optional',
  '--ignore-scripts=false',
  '--bin-links=true',
  '--package-lock=true',
  '--legacy-peer-deps=false',
  '--install-strategy=hoisted',
  '--no-audit',
  '--no-fund',
];

/** Tries three times, but tells somebody who is offline within seconds: npm's own pauses add up to 70. */
const COMMON_FLAGS = [
  '--fetch-retry-mintimeout=1000',
  '--fetch-retry-maxtimeout=4000',
  '--prefer-offline',
  '--loglevel=error',
];

/**
 * Node 24 through npm's cache, when only an older one is there: packages with native parts are to be built for the Node
 * that will load them. The package with the binary is asked for by name; `node` itself only has an install script that
 * does that, and from npm 12 on `npm exec` runs none.
 */
async function fetchNode(outer, npm) {
  const { dependencies, optionalDependencies } = JSON.parse(fs.readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const version = { ...dependencies, ...optionalDependencies }.node;
  const platform = process.platform === 'win32' ? 'win' : process.platform;
  const prefix = platform === 'darwin' && process.arch === 'arm64' ? 'node-bin' : 'node';
  const spec = `${prefix}-${platform}-${process.arch}@${version}`;
  const args = ['exec', '--yes', `--package=${spec}`, '--call=node -p process.execPath'];
  const path = (await runNpm(outer, npm, args)).trim().split('\n').pop();
  if (majorOf(versionOf(path)) !== WANTED_MAJOR) {
    throw new SetupError(
      `could not get Node ${WANTED_MAJOR} as ${spec}. Install Node ${WANTED_MAJOR} yourself and try again.`,
    );
  }
  return path;
}

/** What `node --version` prints; empty when it does not run. */
export function versionOf(node) {
  const shell = node.endsWith('.cmd');
  const { stdout } = spawnSync(shell ? `"${node}"` : node, ['--version'], {
    encoding: 'utf8',
    shell,
    windowsHide: true,
  });
  return (stdout ?? '').trim();
}

const isOurs = (path) => path.startsWith(MODULES + sep);
const searchPath = () => (process.env.PATH ?? '').split(delimiter).filter((directory) => directory !== '');

/** A Node from outside node_modules, which npm ci is about to empty: the one that runs npm, or ourselves, or in PATH. */
function findNode() {
  const name = process.platform === 'win32' ? 'node.exe' : 'node';
  const inPath = searchPath().map((directory) => join(directory, name));
  for (const path of [process.env.npm_node_execpath, process.execPath, ...inPath]) {
    if (path && fs.existsSync(path) && !isOurs(fs.realpathSync(path)) && versionOf(path) !== '') return path;
  }
  throw new SetupError(`found no Node outside node_modules. Install Node ${WANTED_MAJOR} and try again.`);
}

/** npm-cli.js: of the npm that called us, in PATH, or beside the Node. */
function findNpm(node) {
  const calling = process.env.npm_execpath ?? '';
  const candidates = basename(calling) === 'npm-cli.js' ? [calling] : [];
  for (const directory of [...searchPath(), dirname(fs.realpathSync(node))]) {
    candidates.push(join(directory, 'npm'), join(directory, 'node_modules', 'npm', 'bin', 'npm-cli.js'));
    candidates.push(join(directory, '..', 'lib', 'node_modules', 'npm', 'bin', 'npm-cli.js'));
  }
  for (const path of candidates.filter((candidate) => fs.existsSync(candidate))) {
    const real = fs.realpathSync(path);
    if (/\.[cm]?js$/.test(real) && !isOurs(real)) return real;
  }
  throw new SetupError(`found no npm. Install Node ${WANTED_MAJOR} with npm, run "npm ci", and try again.`);
}

/**
 * npm hands its settings down to scripts by environment. Those of the calling command (`--omit`, `--ignore-scripts`,
 * `--global`) must not bend ours; where to get packages from is for the user to say.
 */
const KEPT_SETTINGS =
  /^npm_config_(.*registry|.*proxy|ca|cafile|cert|key|strict_ssl|_auth|.*:_auth.*|cache|offline|.*config|fetch_.*)$/i;

function npmEnvironment(node) {
  const kept = Object.entries(process.env).filter(([name]) => !/^(npm_|path$)/i.test(name) || KEPT_SETTINGS.test(name));
  const path = [dirname(node), ...searchPath().filter((directory) => !isOurs(directory))];
  return { ...Object.fromEntries(kept), PATH: path.join(delimiter) };
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/** Runs npm in the project; its standard output, or an error that says what was wrong. */
async function runNpm(node, npm, args) {
  const child = spawn(node, [npm, ...args, ...COMMON_FLAGS], {
    cwd: ROOT,
    env: npmEnvironment(node),
    stdio: ['ignore', 'pipe', 'pipe'],
    windowsHide: true,
  });
  let interruption = '';
  const interrupt = (signal) => {
    interruption = signal;
    child.kill(signal); // or npm would work on behind our back
  };
  for (const signal of SIGNALS) process.on(signal, interrupt);
  let [stdout, all] = ['', ''];
  child.stdout.on('data', (chunk) => {
    stdout += chunk;
    all += chunk;
  });
  child.stderr.on('data', (chunk) => (all += chunk));
  const code = await new Promise((resolve, reject) => child.on('error', reject).on('close', resolve));
  for (const signal of SIGNALS) process.off(signal, interrupt);
  if (interruption !== '')
    throw new SetupError(`npm ${args[0]} was interrupted by ${interruption}. Start again to go on.`);
  if (code !== 0) throw new SetupError(explain(args[0], code, all));
  return stdout;
}

const OFFLINE = /\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|ERR_SOCKET_TIMEOUT)\b/;
const NOISE = /^(npm warn|npm notice|npm error\s*$|npm error\s+at )|^\s*$/;

function explain(command, code, output) {
  const lines = output.split('\n').filter((line) => !NOISE.test(line));
  const advice = OFFLINE.test(output)
    ? 'The package registry cannot be reached: connect to the network, or set npm\'s "registry" or "https-proxy".'
    : 'Mend that and try again.';
  return `npm ${command} failed (exit code ${code}):\n${lines.slice(0, 8).join('\n')}\nringback: ${advice}`;
}
