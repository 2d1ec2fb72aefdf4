"""Stands for your assistant: it answers every request, as OpenAI's chat completions do, with the usage that ratelimitd books."""

import json
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWER = {
    "object": "chat.completion",
    "model": "llama-3.2-3b-instruct",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}],
    "usage": {"prompt_tokens": 868, "completion_tokens": 145, "total_tokens": 1013},
}


class Handler(BaseHTTPRequestHandler):
    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.dumps({} if self.path == "/healthz" else ANSWER).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close waits for the answers that are under way
    request_queue_size = 128


server = Server(("127.0.0.1", 9000), Handler)
# A first process that does not handle SIGTERM would not notice it.
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
server.server_close()
