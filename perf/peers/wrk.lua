-- The request of the comparison: what a browser sends for a page. PEERS_COOKIE may hold a pass.
wrk.method = "GET"
wrk.path = os.getenv("PEERS_PATH") or "/gala"
wrk.headers["User-Agent"] = "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Mobile Safari/537.36"
wrk.headers["Accept"] = os.getenv("PEERS_ACCEPT") or "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
wrk.headers["Accept-Encoding"] = "gzip, deflate, br"
wrk.headers["Accept-Language"] = "de-DE,de;q=0.9,en;q=0.8"
wrk.headers["Sec-Fetch-Mode"] = os.getenv("PEERS_MODE") or "navigate"
wrk.headers["Sec-Fetch-Dest"] = "document"
wrk.headers["Cookie"] = "session=0123456789abcdef" .. (os.getenv("PEERS_COOKIE") or "")

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\nRESULT {"requests":%d,"duration_us":%d,"bytes":%d,"p50_us":%d,"p99_us":%d,"refused":%d,"broken":%d}\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99),
    e.status, e.connect + e.read + e.write + e.timeout))
end
