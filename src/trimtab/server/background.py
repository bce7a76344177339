"""What runs beside the routes while a server is up: jobs, and the search for files that have changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from trimtab.server.serving import Serving
from trimtab.server.uploads import delete_abandoned

logger = logging.getLogger("trimtab.server")
RELOAD_EVERY = 2.0  # seconds between two looks at the folders


@asynccontextmanager
async def background(serving: Serving) -> AsyncIterator[None]:
    """Run jobs and read changed files inside the ``async with`` block."""
    await asyncio.to_thread(delete_abandoned, serving.vectors.folder)
    if serving.jobs is not None:
        serving.jobs.start()
    reloading = asyncio.create_task(_reload(serving))
    try:
        yield
    finally:
        reloading.cancel()
        if serving.jobs is not None:
            await asyncio.to_thread(serving.jobs.close)


async def _reload(serving: Serving) -> None:
    while True:
        await asyncio.sleep(RELOAD_EVERY)
        try:
            await asyncio.to_thread(serving.refresh)
        except Exception:
            logger.exception("changed vectors and presets could not be read")
