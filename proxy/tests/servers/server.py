# An application for gunicorn: says on its standard output what it was asked.
import os


def answer(environ, start_response):
    asked = f"asked {environ['REQUEST_METHOD']} {environ['PATH_INFO']}\n"
    # PEP 3333: what was decoded is kept as if it were Latin-1.
    os.write(1, asked.encode("latin-1"))
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", "0")])
    return []
