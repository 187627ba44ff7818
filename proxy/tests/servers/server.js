// Node's server: says on its standard output what it was asked.
const http = require("http");
const { writeSync } = require("fs");
const server = http.createServer((request, response) => {
  writeSync(1, `asked ${request.method} ${decodeURIComponent(new URL(request.url, "http://a").pathname)}\n`);
  request.resume();
  request.on("end", () => response.end());
});
server.listen(0, "127.0.0.1", () => writeSync(1, `listens ${server.address().port}\n`));
