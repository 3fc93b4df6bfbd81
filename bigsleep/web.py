"""The page that dreams, and the same things as an HTTP API: parsing and showing; :mod:`bigsleep.studio` does the work."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import fields
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from bigsleep.door import Door
from bigsleep.errors import BigsleepError
from bigsleep.gallery import facts_of, thumbnail
from bigsleep.models.catalogue import GENERATORS, clips_of
from bigsleep.models.published import PERCEPTORS
from bigsleep.picture import Picture, read_recipe
from bigsleep.settings import OPTIONS, Settings, flag_of, typed
from bigsleep.studio import Asked, Studio

MAIN = ("model", "seed", "steps", "time", "image_size", "avoid")  # options that are not folded away
FILES = ("start", "image_prompt")  # options that name files, which here are pictures of the folder, or uploads
KINDS = {".png": "image/png", ".webp": "image/webp", ".gif": "image/gif", ".mp4": "video/mp4", ".webm": "video/webm"}
MOST_BYTES = 20_000_000  # of an upload
MOST_VARIATIONS = 16


class Pictures:
    """What may be served of a folder: its own pictures and films, and nothing by way of links or other names."""

    def __init__(self, folder: Path, uploads: Path) -> None:
        self.folder, self.uploads = folder.resolve(), uploads
        self.thumb = lru_cache(maxsize=2000)(self.thumb_of)
        self.facts = lru_cache(maxsize=2000)(self.facts_in)

    def path(self, name: object, kinds: tuple[str, ...] = tuple(KINDS)) -> Path:
        """The file of a name; HTTP's 404 where there is none that may be served."""
        if isinstance(name, str) and name == Path(name).name and not name.startswith(".") and "\0" not in name:
            path = self.folder / name
            if path.suffix.lower() in kinds and path.is_file() and path.resolve().parent == self.folder:
                return path
        raise HTTPException(404, "there is no such picture in the folder")

    def given(self, name: object) -> Path:
        """The file of a picture that an option names: one of the folder, or an upload."""
        if isinstance(name, str) and name.startswith("upload-") and name == Path(name).name:
            path = self.uploads / name
            if path.is_file():
                return path
        return self.path(name)

    def newest(self, before: int, count: int) -> list[dict[str, Any]]:
        """What is known of ``count`` pictures older than the time ``before`` (nanoseconds), the newest first."""
        found = []
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError, HTTPException):
                told = path.stat()
                if not before or told.st_mtime_ns < before:
                    found.append((told.st_mtime_ns, told.st_size, self.path(path.name).name))
        facts: list[dict[str, Any]] = []
        for changed, size, name in sorted(found, reverse=True):
            if len(facts) == count:
                break
            if (fact := self.facts(name, changed, size)) is not None:
                facts.append(fact)
        return facts

    def facts_in(self, name: str, changed: int, _size: int) -> dict[str, Any] | None:
        """What is known of a file: of films their name, of pictures without a recipe nothing."""
        told = {"file": name, "made": changed // 1_000_000, "before": str(changed)}
        if not name.lower().endswith(".png"):
            return {"prompt": Path(name).stem, "film": True, **told}
        try:
            recipe = read_recipe(self.folder / name)
        except BigsleepError:
            return None
        return facts_of(recipe) | told if recipe else None

    def thumb_of(self, name: str, _changed: int) -> bytes:
        file = io.BytesIO()
        try:
            thumbnail(self.folder / name).save(file, "WEBP", quality=78)
        except BigsleepError:
            raise HTTPException(404, "there is no such picture in the folder") from None
        return file.getvalue()

    def upload(self, data: bytes) -> str:
        """The name of an image that was sent, kept while the server runs; as PNG, whatever it was."""
        path = self.uploads / f"upload-{hashlib.sha256(data).hexdigest()[:20]}"
        path.write_bytes(data)
        try:
            png = Picture.open(path).png()
        except BigsleepError as error:
            raise BigsleepError(str(error).replace(str(path), "what was sent"), usage=True) from None
        finally:
            path.unlink()
        path.with_suffix(".png").write_bytes(png)
        return path.with_suffix(".png").name


class Answer(Response):
    """JSON in ASCII: recipes may hold what is no Unicode, as a lone surrogate."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content).encode("ascii")


def application(folder: Path, defaults: dict[str, Any], hosts: list[str], password: str | None = None) -> Starlette:
    """The page and its API over a ``folder``, answering to ``hosts`` alone."""
    studio, rooms = Studio(folder, defaults), contextlib.ExitStack()
    pictures = Pictures(folder, Path(rooms.enter_context(tempfile.TemporaryDirectory(prefix="bigsleep-"))))

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        studio.open()
        with rooms:
            yield
            await run_in_threadpool(studio.close)

    def page(_request: Request) -> Response:
        return HTMLResponse(page_of(defaults))

    def part(request: Request) -> Response:
        kind = request.path_params["kind"]
        return Response(part_of(kind), media_type={"js": "text/javascript", "css": "text/css"}[kind])

    async def ask(request: Request) -> Response:
        asked = await body_of(request)
        taken = await run_in_threadpool(take, studio, pictures, asked)
        if "wait" in request.query_params:
            for one in taken:
                while not one.ended.is_set():
                    await asyncio.sleep(0.1)
        return Answer({"dreams": [one.told() for one in taken]}, 200 if "wait" in request.query_params else 202)

    def dreams(_request: Request) -> Response:
        return Answer({"dreams": [asked.told() for asked in studio.asked]})

    def found(request: Request) -> Asked:
        asked = studio.find(request.path_params["number"])
        if asked is None:
            raise HTTPException(404, "there is no such dream")
        return asked

    def dream(request: Request) -> Response:
        return Answer(found(request).told())

    def stop(request: Request) -> Response:
        asked = found(request)
        studio.stop(asked)
        return Answer(asked.told())

    async def follow(request: Request) -> Response:
        return StreamingResponse(stream(studio), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    def history(request: Request) -> Response:
        before, count = (request.query_params.get(name, "") for name in ("before", "count"))
        number = min(int(count), 500) if count.isdecimal() else 60
        return Answer({"pictures": pictures.newest(int(before) if before.isdecimal() else 0, number)})

    def picture(request: Request) -> Response:
        path = pictures.path(request.path_params["name"])
        return FileResponse(path, media_type=KINDS[path.suffix.lower()], headers={"Cache-Control": "no-cache"})

    def thumb(request: Request) -> Response:
        path = pictures.path(request.path_params["name"], (".png", ".webp", ".gif"))
        data = pictures.thumb(path.name, path.stat().st_mtime_ns)
        return Response(data, media_type="image/webp", headers={"Cache-Control": "max-age=86400"})

    async def upload(request: Request) -> Response:
        if not request.headers.get("content-type", "").startswith("image/"):
            raise HTTPException(415, "send an image, with its Content-Type")
        data = b""
        async for chunk in request.stream():
            data += chunk
            if len(data) > MOST_BYTES:
                raise HTTPException(413, f"the image is too large: at most {MOST_BYTES // 1_000_000} MB")
        return Answer({"name": await run_in_threadpool(pictures.upload, data)}, 201)

    routes = [
        Route("/", page), Route("/page.{kind:str}", checked_kind(part)),
        Route("/api/dreams", ask, methods=["POST"]), Route("/api/dreams", dreams),
        Route("/api/dreams/{number:int}", dream), Route("/api/dreams/{number:int}", stop, methods=["DELETE"]),
        Route("/api/events", follow), Route("/api/pictures", history),
        Route("/api/options", lambda _request: Answer({"options": options_of(defaults)})),
        Route("/api/uploads", upload, methods=["POST"]),
        Route("/pictures/{name}", picture), Route("/thumbs/{name}", thumb),
    ]  # fmt: skip
    app = Starlette(
        routes=routes, lifespan=lifespan,
        middleware=[Middleware(Door, password=password), Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
        exception_handlers={HTTPException: refuse, BigsleepError: refuse},
    )  # fmt: skip
    app.state.close = lambda: run_in_threadpool(studio.close)
    return app


def checked_kind(part: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """``part`` for the kinds there are."""

    def checked(request: Request) -> Response:
        if request.path_params["kind"] not in ("js", "css"):
            raise HTTPException(404, "there is no such page")
        return part(request)

    return checked


def refuse(_request: Request, error: Exception) -> Response:
    """An error that a user can mend, as JSON."""
    if isinstance(error, HTTPException):
        return Answer({"error": error.detail}, error.status_code)
    return Answer({"error": str(error)}, 400)


async def body_of(request: Request) -> dict[str, Any]:
    """The JSON object that was sent. Pages of other sites cannot send any without asking, and are not answered."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "send JSON, with Content-Type: application/json")
    try:
        body = await request.json()
    except (ValueError, RecursionError):
        raise HTTPException(400, "that is no JSON") from None
    if not isinstance(body, dict):
        raise HTTPException(400, 'send a JSON object, as in {"prompt": "a beautiful house"}')
    return body


def take(studio: Studio, pictures: Pictures, asked: dict[str, Any]) -> list[Asked]:
    """What the page and the API may ask for, handed to the ``studio``."""
    prompt, source, morph = asked.pop("prompt", None), asked.pop("from", None), asked.pop("morph", None)
    variations, vary = asked.pop("variations", 1), asked.pop("vary", False)
    if not (prompt is None or isinstance(prompt, str)):
        raise BigsleepError("the prompt is no text", usage=True)
    if not isinstance(variations, int) or isinstance(variations, bool) or not 1 <= variations <= MOST_VARIATIONS:
        raise BigsleepError(f"variations are a number from 1 to {MOST_VARIATIONS}", usage=True)
    options = {name: given(name, value, pictures) for name, value in asked.items() if value not in (None, "", [])}
    if morph is not None:
        if not isinstance(morph, list) or not 2 <= len(morph) <= 16:
            raise BigsleepError("a morph takes the names of 2 to 16 pictures", usage=True)
        return studio.morph(tuple(pictures.path(name, (".png",)) for name in morph))
    if source is not None and vary:
        return studio.vary(pictures.path(source, (".png",)), variations)
    if source is not None:
        return studio.go_on(pictures.path(source, (".png",)), prompt or None, options)
    return studio.dream(prompt or "", options, variations)


def given(name: str, value: Any, pictures: Pictures) -> Any:
    """An option's value as the settings take it; no file but a picture of the folder, or an upload, can be named."""
    if name in FILES:
        parts = value if isinstance(value, list) else [value]
        paths = []
        for part in parts:
            file, colon, weight = str(part).partition(".png:")
            paths.append(f"{pictures.given(file + '.png')}:{weight}" if colon else str(pictures.given(part)))
        return tuple(paths) if OPTIONS[name]["many"] else paths[0]
    names = {"model": ("auto", *GENERATORS), "clip": ("emoji", *PERCEPTORS)}
    parts = [one for one, _ in clips_of(value)] if name == "clip" and isinstance(value, str) else [value]
    if name in names and any(one not in names[name] for one in parts):
        raise BigsleepError(f"unknown {name} {value!r}: choose {', '.join(names[name])}", usage=True)
    if OPTIONS.get(name, {}).get("many") and isinstance(value, list):
        return tuple(value)
    return typed(name, value)


async def stream(studio: Studio) -> AsyncIterator[str]:
    """All that is, and then all that happens, as server-sent events."""
    loop, waiting = asyncio.get_running_loop(), asyncio.Queue[dict[str, Any]]()

    def hear(event: dict[str, Any]) -> None:
        loop.call_soon_threadsafe(waiting.put_nowait, event)

    leave = studio.listen(hear)
    try:
        yield sent({"event": "all", "dreams": [asked.told() for asked in studio.asked]})
        while True:
            try:
                event = await asyncio.wait_for(waiting.get(), timeout=15)
                if event["event"] == "closed":
                    return
                yield sent(event)
            except asyncio.TimeoutError:
                yield ": still here\n\n"  # or who has gone would never be noticed
    finally:
        leave()


def sent(event: dict[str, Any]) -> str:
    return f"data: {json.dumps(event)}\n\n"


def options_of(defaults: dict[str, Any]) -> list[dict[str, Any]]:
    """The options of a dream as the page and the API show them, read off the settings."""
    told = []
    for item in fields(Settings):
        rules = item.metadata
        default = defaults.get(item.name, rules["shown"] or (item.default if item.default not in (None, ()) else ""))
        choices = rules["choices"] or {"model": ("auto", *GENERATORS), "clip": ("emoji", *PERCEPTORS)}.get(item.name)
        kind = "file" if item.name in FILES else rules["kind"].__name__ if not rules["parse"] else "str"
        told.append(
            {
                "name": item.name, "help": rules["help"], "kind": kind, "choices": choices, "many": rules["many"],
                "least": rules["least"], "most": rules["most"], "default": str(default), "flag": flag_of(item.name),
            }
        )  # fmt: skip
    return told


@lru_cache
def part_of(kind: str) -> str:
    """The page's script or style; the gallery's style is the first part of it."""
    names = [f"gallery.{kind}", f"web.{kind}"] if kind == "css" else [f"web.{kind}"]
    return "\n".join((files("bigsleep") / "templates" / name).read_text("utf-8") for name in names)


def page_of(defaults: dict[str, Any]) -> str:
    from jinja2 import Environment, PackageLoader

    pages = Environment(loader=PackageLoader("bigsleep"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    options = {option["name"]: option for option in options_of(defaults)}
    folded = [option for name, option in options.items() if name not in (*MAIN, *FILES)]
    return pages.get_template("web.html").render(main=[options[name] for name in MAIN], folded=folded)
