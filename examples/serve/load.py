#!/usr/bin/env python3
"""A load generator for serve.py: clients that talk to it at the same time and measure what a user would notice.

    python load.py --port PORT --requests 64 --clients 8

Each client holds its own conversations, asks, reads the answer as it streams, and asks again. Reported: tokens per second
of all clients together, and percentiles of the time to the first token, of the gap between two tokens, and of the whole
answer. Also imported by serve.py, which asks itself with it.
"""

import argparse
import http.client
import json
import math
import sys
import threading
import time


class Answer:
    def __init__(self):
        self.text = ""
        self.first_token_seconds = self.seconds = None
        self.gaps = []


def ask(port, prompt, max_tokens, session):
    """One streamed answer over loopback."""
    answer = Answer()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        start = last = time.monotonic()
        body = {"prompt": prompt, "max_tokens": max_tokens, "session": session, "stream": True}
        connection.request("POST", "/generate", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"the server answered {response.status}: {response.read().decode(errors='replace')}")
        complete = None
        for line in response:
            if not line.startswith(b"data: "):
                continue
            fields = json.loads(line[6:])
            if "error" in fields:
                raise RuntimeError(f"the server answered: {fields['error']}")
            now = time.monotonic()
            if "token" in fields:
                answer.text += fields["token"]
                if answer.first_token_seconds is None:
                    answer.first_token_seconds = now - start
                else:
                    answer.gaps.append(now - last)
                last = now
            else:
                complete = fields["text"]
                answer.seconds = now - start
        if complete != answer.text:
            raise RuntimeError(f"the stream of {session} ended early: {answer.text!r} of {complete!r}")
        return answer
    finally:
        connection.close()


def prompt_of(session, turn):
    return f"[session {session}, turn {turn}] What does unified memory do with a page that both sides want? " * 2


def drive(port, requests, max_tokens, clients=1, sessions=4):
    """(answers in the order of the requests, seconds). Request n is of session n % sessions; a session has one client."""
    answers = [None] * requests
    failures = []
    clients = max(1, min(clients, sessions))

    def work(client):
        for number in range(requests):
            session = number % sessions
            if session % clients != client or failures:
                continue
            if sys.stderr.isatty():
                print(f"\r{sum(answer is not None for answer in answers)} of {requests} answers", end="", file=sys.stderr)
            try:
                answers[number] = ask(port, prompt_of(session, number // sessions), max_tokens, f"session-{session}")
            except Exception as error:  # pylint: disable=broad-except
                failures.append(error)

    start = time.monotonic()
    threads = [threading.Thread(target=work, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    if failures:
        raise failures[0]
    return answers, time.monotonic() - start


def percentile(values, percent):
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)] if ordered else None


def summary(answers, seconds):
    """Names and numbers, seconds in milliseconds."""
    result = {"answers": len(answers), "tokens": sum(len(answer.text) for answer in answers)}
    result["tokens_per_second"] = result["tokens"] / seconds if seconds > 0 else 0.0
    for name, values in (("first_token", [answer.first_token_seconds for answer in answers]),
                         ("token_gap", [gap for answer in answers for gap in answer.gaps]),
                         ("answer", [answer.seconds for answer in answers])):
        for percent in (50, 90, 99):
            value = percentile(values, percent)
            result[f"{name}_p{percent}_ms"] = None if value is None else round(value * 1e3, 3)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--sessions", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=64)
    options = parser.parse_args()
    result = summary(*drive(options.port, options.requests, options.max_tokens, options.clients, options.sessions))
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
