# Without comments: they are in the project's file of this name.
import os
import signal
import sys
import threading
from pathlib import Path
from retention.errors import ConfigError
from watch.api import Api
from watch.serve import Watcher
from watch.server import Server
from watch.settings import read
_ACCOUNT = Path("/var/run/secrets/cnpg-backup")
_SECRETS = Path("/etc/cnpg-backup-notify")
_PORT = 8080
def main():
 stop = threading.Event()
 for number in (signal.SIGTERM, signal.SIGINT):
  signal.signal(number, lambda *_: stop.set())
 try:
  settings = read(Path(sys.argv[1] if len(sys.argv) > 1 else "/opt/cnpg-backup/scripts/watch.json").read_text())
 except (ConfigError, OSError) as error:
  print(f"watch: {error}", file=sys.stderr)
  return 2
 host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
 url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
 account = Path(os.environ.get("WATCH_ACCOUNT", _ACCOUNT))
 watcher = Watcher(settings, Api(url, account / "token", account / "ca.crt", settings.namespace), secrets=_SECRETS)
 server = Server(("", int(os.environ.get("WATCH_PORT", _PORT))), watcher.document)
 threading.Thread(target=server.serve_forever, daemon=True).start()
 watcher.run(stop)
 server.shutdown()
 return 0
if __name__ == "__main__":
 sys.exit(main())
