import { spawn, spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { onTestFinished } from 'vitest';

/** A request as a receiver may get it, and what it verifies it with: its secrets, or its keys as JSON. */
export interface Asked {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  readonly known: readonly string[];
}

/**
 * What surrounds a snippet of the guide to make a program of it: for each line that it reads, of
 * `id TAB timestamp TAB signature TAB base64 of the body TAB what is known, with blanks between`, it writes true or false.
 * An empty field is a header that is not there.
 */
interface Language {
  /** As the guide's blocks have it, and which of them. */
  readonly block: string;
  readonly index?: number;
  /** Of what kind what is known is: secrets, or the keys of the key set. */
  readonly takes?: 'keys';
  /** The snippet's place, and the rest of the program. */
  readonly snippet: string;
  readonly files: Readonly<Record<string, string>>;
  /** Each is run in turn; the last one reads and writes. */
  readonly commands: ReadonlyArray<readonly [program: string, ...args: string[]]>;
  readonly env?: Readonly<Record<string, string>>;
}

const NODE = (take: string) => `
import { createInterface } from 'node:readline';
import { verify } from './callback.ts';
for await (const line of createInterface({ input: process.stdin })) {
  const [id, timestamp, signature, body, known] = line.split('\\t');
  const fields = Object.entries({ 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signature });
  const headers = Object.fromEntries(fields.filter(([, value]) => value !== ''));
  process.stdout.write(verify(Buffer.from(body, 'base64'), headers, known.split(' ').filter(Boolean)${take}) + '\\n');
}`;

export const LANGUAGES: Readonly<Record<string, Language>> = {
  TypeScript: {
    block: 'ts',
    index: 1,
    snippet: 'callback.ts',
    files: { 'main.mjs': NODE('') },
    commands: [[process.execPath, 'main.mjs']],
  },
  'TypeScript, with a public key': {
    block: 'ts',
    index: 2,
    takes: 'keys',
    snippet: 'callback.ts',
    files: { 'main.mjs': NODE('.map((jwk) => JSON.parse(jwk))') },
    commands: [[process.execPath, 'main.mjs']],
  },
  Python: {
    block: 'python',
    snippet: 'callback.py',
    files: {
      'main.py': `
import base64, sys
from callback import verify
for line in sys.stdin:
    *fields, body, known = line.rstrip("\\n").split("\\t")
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    headers = {name: value for name, value in zip(names, fields) if value}
    print(str(verify(base64.b64decode(body), headers, known.split())).lower())
`,
    },
    commands: [['python3', '-B', 'main.py']],
  },
  Go: {
    block: 'go',
    snippet: 'callback/callback.go',
    files: {
      'go.mod': 'module receiver\n\ngo 1.21\n',
      'main.go': `package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"os"
	"strings"

	"receiver/callback"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), "\\t")
		headers := map[string]string{"webhook-id": fields[0], "webhook-timestamp": fields[1], "webhook-signature": fields[2]}
		header := func(name string) string { return headers[name] }
		body, _ := base64.StdEncoding.DecodeString(fields[3])
		fmt.Println(callback.Verify(body, header, strings.Fields(fields[4])))
	}
}
`,
    },
    commands: [['go', 'build', '-o', 'receiver', '.'], ['./receiver']],
    env: { CGO_ENABLED: '0', GOTOOLCHAIN: 'local', GOFLAGS: '', GOPROXY: 'off' },
  },
  Ruby: {
    block: 'ruby',
    snippet: 'callback.rb',
    files: {
      'main.rb': `
require_relative "callback"
STDIN.each_line(chomp: true) do |line|
  *fields, body, known = line.split("\\t", -1)
  headers = %w[webhook-id webhook-timestamp webhook-signature].zip(fields).reject { |_, value| value.empty? }.to_h
  puts verify(body.unpack1("m0"), headers, known.split)
end
`,
    },
    commands: [['ruby', 'main.rb']],
  },
  PHP: {
    block: 'php',
    snippet: 'callback.php',
    files: {
      'main.php': `<?php
require __DIR__ . '/callback.php';
while (($line = fgets(STDIN)) !== false) {
    [$id, $timestamp, $signature, $body, $known] = explode("\\t", rtrim($line, "\\n"));
    $headers = ['webhook-id' => $id, 'webhook-timestamp' => $timestamp, 'webhook-signature' => $signature];
    $headers = array_filter($headers, fn ($value) => $value !== '');
    echo verify(base64_decode($body), $headers, $known === '' ? [] : explode(' ', $known)) ? 'true' : 'false', "\\n";
}
`,
    },
    commands: [['php', 'main.php']],
  },
  Java: {
    block: 'java',
    snippet: 'Callback.java',
    files: {
      'Main.java': `
import java.io.*;
import java.util.*;

public class Main {
  public static void main(String[] args) throws Exception {
    var lines = new BufferedReader(new InputStreamReader(System.in));
    for (String line; (line = lines.readLine()) != null; ) {
      var fields = line.split("\\t", -1);
      var headers = new HashMap<String, String>();
      var names = new String[] {"webhook-id", "webhook-timestamp", "webhook-signature"};
      for (int index = 0; index < 3; index++) if (!fields[index].isEmpty()) headers.put(names[index], fields[index]);
      var known = fields[4].isEmpty() ? List.<String>of() : List.of(fields[4].split(" "));
      System.out.println(Callback.verify(Base64.getDecoder().decode(fields[3]), headers, known));
    }
  }
}
`,
    },
    commands: [
      ['javac', 'Main.java', 'Callback.java'],
      ['java', 'Main'],
    ],
  },
  'C#': {
    block: 'csharp',
    snippet: 'Callback.cs',
    files: {
      'receiver.csproj': `<Project Sdk="Microsoft.NET.Sdk"><PropertyGroup><OutputType>Exe</OutputType>
<TargetFramework>net$(BundledNETCoreAppTargetFrameworkVersion)</TargetFramework><UseAppHost>false</UseAppHost>
</PropertyGroup></Project>`,
      'Program.cs': `
using System;
using System.Collections.Generic;

public static class Program
{
    public static void Main()
    {
        for (string line; (line = Console.ReadLine()) != null;)
        {
            var fields = line.Split('\\t');
            var headers = new Dictionary<string, string>();
            var names = new[] { "webhook-id", "webhook-timestamp", "webhook-signature" };
            for (var index = 0; index < 3; index++) if (fields[index] != "") headers[names[index]] = fields[index];
            var known = fields[4].Split(new[] { ' ' }, StringSplitOptions.RemoveEmptyEntries);
            Console.WriteLine(Callback.Verify(Convert.FromBase64String(fields[3]), headers, known) ? "true" : "false");
        }
    }
}
`,
    },
    commands: [
      ['dotnet', 'build', '--nologo', '-v', 'q', '-o', 'out'],
      ['dotnet', 'out/receiver.dll'],
    ],
    env: { DOTNET_CLI_TELEMETRY_OPTOUT: '1', DOTNET_NOLOGO: '1' },
  },
};

const GUIDE = new URL('../../../docs/guides/verify-a-callback.md', import.meta.url);

async function snippetOf({ block, index = 0 }: Language): Promise<string> {
  const guide = await readFile(GUIDE, 'utf8');
  const blocks = [...guide.matchAll(/^```(\w+)\n(.*?)^```$/gms)].filter(([, language]) => language === block);
  const code = blocks[index]?.[2];
  if (code === undefined) throw new Error(`the guide has no block ${index} in ${block}`);
  return code;
}

/** The program that a machine lacks to run it; undefined when it has them all. */
export function missingProgram({ commands }: Language): string | undefined {
  const programs = commands.map(([program]) => program).filter((program) => !program.startsWith('./'));
  return programs.find((program) => spawnSync('which', [program]).status !== 0);
}

/** Makes a program of the guide's snippet; it answers what it says to each. Gone with the test. */
export async function prepareSnippet(language: Language): Promise<(asked: readonly Asked[]) => Promise<boolean[]>> {
  const folder = await mkdtemp(join(tmpdir(), 'ringback-verify-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const files = { ...language.files, [language.snippet]: await snippetOf(language) };
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), content);
  }
  const [last, ...first] = language.commands.toReversed();
  for (const command of first.toReversed()) await run(command, folder, language.env, '');
  return async (asked) => {
    const said = await run(last!, folder, language.env, asked.map(lineOf).join(''));
    return said.trim().split('\n').map(toBoolean);
  };
}

function toBoolean(line: string): boolean {
  if (line === 'true' || line === 'false') return line === 'true';
  throw new Error(`neither true nor false: ${line}`);
}

async function run(
  [program, ...args]: readonly [string, ...string[]],
  cwd: string,
  env: Language['env'],
  input: string,
): Promise<string> {
  const child = spawn(program, args, { cwd, env: { ...process.env, ...env }, timeout: 120_000 });
  const { promise: ended, resolve, reject } = Promise.withResolvers<number | null>();
  child.on('close', resolve).on('error', reject);
  // A compiler does not read it.
  child.stdin.on('error', () => undefined).end(input);
  const [out, complaints] = await Promise.all([text(child.stdout), text(child.stderr)]);
  const code = await ended;
  if (code !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${code}: ${out}${complaints}`);
  return out;
}

function lineOf({ headers, body, known }: Asked): string {
  const fields = ['webhook-id', 'webhook-timestamp', 'webhook-signature'].map((name) => headers[name] ?? '');
  return `${[...fields, Buffer.from(body).toString('base64'), known.join(' ')].join('\t')}\n`;
}
