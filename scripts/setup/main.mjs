import { findFault, isStampValid, writeStamp } from './check.mjs';
import { install, say, SetupError } from './install.mjs';
import { underLock } from './lock.mjs';

export async function setUp() {
  if (isStampValid()) return;
  try {
    await underLock(setUpAlone);
  } catch (error) {
    const isExpected = error instanceof SetupError || error.syscall !== undefined;
    say(isExpected ? error.message : error.stack);
    process.exitCode = 1;
  }
}

async function setUpAlone() {
  if (isStampValid()) return; // another set-up was quicker
  if (findFault() !== undefined) {
    await install();
    const fault = findFault();
    if (fault !== undefined) {
      throw new SetupError(`npm ci went through, but ${fault}. Remove node_modules and try again.`);
    }
  }
  writeStamp();
}
