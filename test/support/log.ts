import { type Logger, pino } from 'pino';

export type LogLine = Readonly<Record<string, unknown>> & { readonly level: number; readonly msg?: string };

/** A logger as the service has it, writing to memory. `lines` grows. */
export function memoryLog(): { readonly log: Logger; readonly lines: LogLine[] } {
  const lines: LogLine[] = [];
  const log = pino({ level: 'trace', base: null }, { write: (line) => void lines.push(JSON.parse(line) as LogLine) });
  return { log, lines };
}

const ERROR = 50;

/** Lines that say that something of ours went wrong. */
export function errorsIn(lines: readonly LogLine[]): LogLine[] {
  return lines.filter(({ level }) => level >= ERROR);
}
