"""Stands for your assistant: it answers every request, as OpenAI's chat completions do, with the usage that ratelimitd books."""

import json
import signal
import threading
import time
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
    request_queue_size = 128
    timeout = 0.5  # seconds that handle_request waits for a request
    ending = False
    busy = 0.0  # when there was something to do

    def process_request(self, request, client_address):
        self.busy = time.monotonic()
        super().process_request(request, client_address)

    def end(self, *_):
        print("told to end: answering until nothing is under way", flush=True)
        self.busy, self.ending = time.monotonic(), True

    def done(self):
        """Tells whether it is to end and has had nothing to do for two seconds.

        A connection to Envoy may bring a request yet, if it was idle all the time that preStop slept. And Envoy, which ends
        right after the app, passes the last answer on and tells ratelimitd what it has cost.
        """
        if threading.active_count() > 1:  # each request has a thread
            self.busy = time.monotonic()
        return self.ending and time.monotonic() - self.busy > 2


server = Server(("127.0.0.1", 9000), Handler)
signal.signal(signal.SIGTERM, server.end)  # a first process that does not handle SIGTERM would not notice it
while not server.done():
    server.handle_request()
server.server_close()
