import { stat } from 'node:fs/promises';
import { EmbeddedPostgresError } from './errors.ts';
import { type Identity, run } from './processes.ts';

const USER = 'postgres';

export function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/**
 * The user for the server, or `undefined` for ourselves: PostgreSQL refuses to run as root. A cluster that already
 * belongs to an ordinary user stays his, so that one "sudo npm start" does not lock him out for good.
 */
export async function serverUser(clusterDir: string): Promise<Identity | undefined> {
  if (!isRoot()) return undefined;
  const owner = await stat(clusterDir).catch(() => undefined);
  if (owner && owner.uid !== 0) return { uid: owner.uid, gid: owner.gid };

  const user = (await lookUp()) ?? (await create());
  const probe = await run('/bin/sh', ['-c', ':'], user);
  if (!probe.ok) throw cannotSwitch(probe.output);
  return user;
}

async function lookUp(): Promise<Identity | undefined> {
  const [uid, gid] = await Promise.all([run('id', ['-u', USER]), run('id', ['-g', USER])]);
  return uid.ok && gid.ok ? { uid: Number(uid.output), gid: Number(gid.output) } : undefined;
}

async function create(): Promise<Identity> {
  const faults: string[] = [];
  for (const commands of [SHADOW, BUSYBOX]) {
    for (const [command, ...args] of commands) {
      const { ok, output } = await run(command, args);
      if (!ok) faults.push(output.split('\n', 1)[0]!);
    }
    const user = await lookUp(); // the group may have existed, or another starter have been quicker: only this counts
    if (user) return user;
  }
  throw cannotSwitch(`the user "${USER}" does not exist and could not be created: ${faults.join('; ')}`);
}

type Command = readonly [string, ...string[]];
const SHADOW: readonly Command[] = [
  ['groupadd', '--system', USER],
  ['useradd', '--system', '--gid', USER, '--no-create-home', '--home-dir', '/', '--shell', '/usr/sbin/nologin', USER],
];
const BUSYBOX: readonly Command[] = [
  ['addgroup', '-S', USER],
  ['adduser', '-S', '-D', '-H', '-h', '/', '-s', '/sbin/nologin', '-G', USER, USER],
];

function cannotSwitch(fault: string): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    'no_unprivileged_user',
    `PostgreSQL refuses to run as root, and running it as another user failed: ${fault}. ` +
      `Start Ringback as an ordinary user, or create the user "${USER}", or set DATABASE_URL.`,
  );
}
