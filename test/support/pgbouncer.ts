import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, chmod, chown, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from './eventually.ts';
import { freePort } from './free-port.ts';

/** Debian's package, and where others put it. */
const BINARIES = ['/usr/sbin/pgbouncer', '/usr/local/bin/pgbouncer', '/opt/homebrew/bin/pgbouncer'];
const NOBODY = 65_534;

/** A PgBouncer in transaction mode before a server: every transaction may get another session, and nothing is prepared. */
export interface PgBouncer {
  /** The same database, through here. */
  url(databaseUrl: string): string;
  stop(): Promise<void>;
}

/** Undefined where it is not installed; `apt-get install pgbouncer` brings it. */
export async function findPgBouncer(): Promise<string | undefined> {
  for (const path of BINARIES) {
    const found = await access(path).then(
      () => true,
      () => false,
    );
    if (found) return path;
  }
  return undefined;
}

/** @param serverUrl a role that may connect to every database that is asked for */
export async function startPgBouncer(binary: string, serverUrl: string): Promise<PgBouncer> {
  const server = new URL(serverUrl);
  const directory = await mkdtemp(join(tmpdir(), 'ringback-pgbouncer-'));
  const port = await freePort();
  const user = decodeURIComponent(server.username);
  const password = decodeURIComponent(server.password);
  const [settings, users] = [join(directory, 'pgbouncer.ini'), join(directory, 'users.txt')];
  const target = `host=${server.hostname} port=${server.port || '5432'} user=${user} password='${password}'`;
  await writeFile(users, `"${user}" "${password}"\n`);
  await writeFile(
    settings,
    `[databases]
* = ${target}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = trust
auth_file = ${users}
pool_mode = transaction
default_pool_size = 8
max_client_conn = 500
; A database that is to be dropped must not stay open for long.
server_idle_timeout = 1
autodb_idle_timeout = 1
`,
  );
  const isRoot = process.getuid?.() === 0;
  if (isRoot) for (const path of [directory, settings, users]) await chown(path, NOBODY, NOBODY);
  await chmod(directory, 0o700);
  const child = spawn(binary, ['-q', settings], {
    stdio: 'ignore',
    // It refuses to run as root.
    ...(isRoot && { uid: NOBODY, gid: NOBODY }),
  });
  await eventually(() => knock(port, child), 10_000);
  return {
    url: (databaseUrl) => {
      const url = new URL(databaseUrl);
      url.hostname = '127.0.0.1';
      url.port = String(port);
      return url.href;
    },
    stop: async () => {
      const exited = child.exitCode === null ? once(child, 'exit') : undefined;
      child.kill('SIGTERM');
      await exited;
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function knock(port: number, child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) throw new Error(`PgBouncer ended with code ${child.exitCode}`);
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
  } finally {
    socket.destroy();
  }
}
