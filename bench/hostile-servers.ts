import type { AddressInfo } from 'node:net';
import { HOSTILE_RECEIVERS } from '../test/integration/egress/hostile-receivers.ts';

/** Every hostile receiver in a process of its own, so that the memory measured is the sender's. Tells their ports. */
const ports = await Promise.all(
  HOSTILE_RECEIVERS.map(({ server }) => {
    const listening = server();
    return new Promise<number>((resolve) => {
      listening.listen(0, '127.0.0.1', () => resolve((listening.address() as AddressInfo).port));
    });
  }),
);
process.send!({ ports });
process.on('disconnect', () => process.exit(0));
