"""Serving the HTTP face."""

from __future__ import annotations

from importlib.util import find_spec

import click

from vault import Maintenance

APPLICATION = "vault.web:create_app"


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8600, show_default=True, help="0 chooses a free one.")
@click.option("--processes", type=click.IntRange(1, 256), default=1, show_default=True, help="That serve side by side.")
@click.option("--proxies", default="127.0.0.1", show_default=True, help="Proxies whose X-Forwarded-… is believed.")
@click.option("--root-path", default="", help="Where a proxy has put this, such as /vault.")
def serve(host: str, port: int, processes: int, proxies: str, root_path: str) -> None:
    """Serve the HTTP face with uvicorn, until SIGTERM or Ctrl-C; TLS is a proxy's."""
    if find_spec("fastapi") is None or find_spec("uvicorn") is None:
        raise click.UsageError("serving takes the extra 'web': pip install 'evergrant[web]'")
    import uvicorn

    maintenance = Maintenance.from_env()
    maintenance.check()  # what cannot work is told here, by one process and once
    maintenance.close()
    uvicorn.run(
        APPLICATION, factory=True, host=host, port=port, workers=processes, forwarded_allow_ips=proxies,
        root_path=root_path, access_log=False, server_header=False, date_header=True, log_level="warning",
        timeout_graceful_shutdown=15, h11_max_incomplete_event_size=32_768,
    )  # fmt: skip
