-- Sends the bodies of a file (one a line) in turn, and prints what was measured as one line of JSON.
-- Arguments: the file, the path. Requests are built once: while it runs, one costs an index into a table.
local built, n, at = {}, 0, 0

function init(args)
  local headers = { ["content-type"] = "application/json" }
  for body in io.lines(args[1]) do
    n = n + 1
    built[n] = wrk.format("POST", args[2], headers, body)
  end
end

function request()
  at = at % n + 1
  return built[at]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\n{"n_requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"max_us":%d,"n_bad_status":%d,"n_socket_errors":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    e.status, e.connect + e.read + e.write + e.timeout))
end
