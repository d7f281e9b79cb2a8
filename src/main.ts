import { enableCompileCache } from 'node:module';
import { fileURLToPath } from 'node:url';

// What Node makes of the sources is kept for the next start: that one is half a second faster, and takes 15 MB less. Kept in the installation,
// not in the system's temporary directory, where others may write; where it cannot be kept, it is made anew.
enableCompileCache(fileURLToPath(new URL('../node_modules/.cache/ringback', import.meta.url)));
await import('./program.ts');
