/** What somebody who has just started Ringback wants to paste. */
export function greeting(url: string, apiKey: string, databaseUrl: string): string {
  return `
Ringback is listening on ${url}
  API key   ${apiKey}
  database  psql '${databaseUrl}'

Try it:

  curl -sS ${url}/v1/jobs \\
    -H 'Authorization: Bearer ${apiKey}' -H 'Content-Type: application/json' \\
    -d '{"type":"ringback.echo","input":{"hello":"world"},"callback":{"url":"http://127.0.0.1:8080/"}}'

The answer holds the job's status_url and, the first time, the signing secret of the callback.
See README.md for a receiver in one line.

`;
}
