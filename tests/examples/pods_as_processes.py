"""A stand-in for Kubernetes: it keeps objects, notes what it is asked, and starts each pod as a process of this machine.

In: requests of Spark's scheduler and of a pod's own scripts. Out: the objects that they made, the requests, and processes
that run what a pod's container would run. Images, users, limits and networks of Kubernetes are not imitated.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import yaml

_PATH = re.compile(
    r"^/(?:api|apis/(?P<group>[^/]+))/(?P<version>v1)/namespaces/(?P<namespace>[^/]+)/(?P<resource>[^/]+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<part>[^/]+))?$"
)


class Asked(NamedTuple):
    """What somebody wanted to do: a verb of RBAC, an API group, and a resource such as ``pods`` or ``statefulsets/scale``."""

    verb: str
    group: str
    resource: str


class Kubernetes:
    """An API server at ``url``.

    Args:
        folder: Folder of the pods: their volumes and logs.
        image: Folder whose files the image has in ``/opt``, ``entrypoint.sh`` among them.
        environment: Variables of the image.
        secrets: Variables of each secret by its name.
    """

    def __init__(self, folder: Path, image: Path, environment: dict[str, str], secrets: dict[str, dict]) -> None:
        self.folder, self.image, self.environment, self.secrets = folder, image, environment, secrets
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.made: list[dict[str, Any]] = []
        self.asked: list[Asked] = []
        self.processes: dict[str, subprocess.Popen] = {}
        self._starting = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def create(self, resource: str, content: dict[str, Any]) -> dict[str, Any]:
        """Keeps an object, and starts each pod whose volumes are there. Spark makes a pod before its ConfigMap."""
        metadata = content["metadata"]
        metadata.setdefault("name", metadata.get("generateName", "") + uuid.uuid4().hex[:5])
        metadata |= {"namespace": "qarm", "uid": str(uuid.uuid4()), "resourceVersion": "1"}
        metadata["creationTimestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.made.append(json.loads(json.dumps(content)))
        self.objects[resource, metadata["name"]] = content
        with self._starting:
            for (kind, _), one in list(self.objects.items()):
                if kind == "pods" and one["metadata"]["name"] not in self.processes and self._has_volumes(one):
                    self._start(one)
        return content

    def delete(self, resource: str, name: str) -> None:
        """Forgets an object, and ends it if it is a pod."""
        self.objects.pop((resource, name), None)
        process = self.processes.get(name) if resource == "pods" else None
        if process is not None and process.poll() is None:
            process.terminate()

    def said(self, pod: str) -> str:
        """Returns what a pod has written."""
        return (self.folder / pod / "log").read_text()

    def stop(self) -> None:
        """Ends the server and all pods."""
        self._server.shutdown()
        self._server.server_close()
        for process in self.processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # with all that it has started
            process.wait()

    def refreshed(self, pod: dict[str, Any]) -> dict[str, Any]:
        """Returns a pod with its present state."""
        if (process := self.processes.get(pod["metadata"]["name"])) is None:
            pod["status"] = {"phase": "Pending"}
            return pod
        code = process.poll()
        ended = {None: "Running", 0: "Succeeded"}.get(code, "Failed")
        state = {"running": {}} if code is None else {"terminated": {"exitCode": code}}
        name = pod["spec"]["containers"][0]["name"]
        statuses = [{"name": name, "image": "", "imageID": "", "ready": True, "restartCount": 0, "state": state}]
        ready = [{"type": "Ready", "status": "True" if code is None else "False"}]
        pod["status"] = {"phase": ended, "podIP": "127.0.0.1", "conditions": ready, "containerStatuses": statuses}
        return pod

    def _has_volumes(self, pod: dict[str, Any]) -> bool:
        named = [volume["configMap"]["name"] for volume in pod["spec"].get("volumes", ()) if "configMap" in volume]
        return all(("configmaps", name) in self.objects for name in named)

    def _start(self, pod: dict[str, Any]) -> None:
        name, spec = pod["metadata"]["name"], pod["spec"]
        (container,) = spec["containers"]
        home = self.folder / name
        home.mkdir(parents=True)
        mounted = self._mount(spec, container, home)

        def here(value: str) -> str:
            for inside, outside in sorted(mounted.items(), reverse=True):
                value = re.sub(rf"(?<![\w.]){re.escape(inside)}(?=/|$|\s|,)", str(outside), value)
            return value

        environment = dict(self.environment)
        for source in container.get("envFrom", ()):
            environment |= self.secrets[source["secretRef"]["name"]]
        fields = {"status.podIP": "127.0.0.1", "metadata.name": name}
        for variable in container.get("env", ()):
            field = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
            environment[variable["name"]] = fields[field] if field else here(variable.get("value", ""))
        command = [str(self.image / "entrypoint.sh"), *(here(one) for one in container["args"])]
        with open(home / "log", "w") as log:
            self.processes[name] = subprocess.Popen(
                command, cwd=home, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def _mount(self, spec: dict, container: dict, home: Path) -> dict[str, Path]:
        """Makes the volumes, and returns the folder here of each path in the container."""
        volumes = {volume["name"]: volume for volume in spec.get("volumes", ())}
        mounted = {f"/opt/{file.name}": file for file in self.image.iterdir() if file.is_file()}
        for mount in container.get("volumeMounts", ()):
            volume = volumes.get(mount["name"], {})
            inside = mount["mountPath"]
            if inside == "/tmp":  # the tests themselves work there
                continue
            folder = home / "volumes" / inside.strip("/").replace("/", "_")
            folder.mkdir(parents=True, exist_ok=True)
            mounted[inside] = folder
            if "configMap" in volume:
                data = self.objects["configmaps", volume["configMap"]["name"]]["data"]
                items = volume["configMap"].get("items") or [{"key": key, "path": key} for key in data]
                for item in items:
                    (folder / item["path"]).parent.mkdir(parents=True, exist_ok=True)
                    (folder / item["path"]).write_text(data[item["key"]])
        for folder in filter(Path.is_dir, mounted.values()):  # A file of settings may name a folder of the pod.
            for file in folder.rglob("*.yaml"):
                for inside, outside in mounted.items():
                    file.write_text(re.sub(rf"(?<=: ){inside}(?=/|$)", str(outside), file.read_text(), flags=re.M))
        return mounted


def _handler(cluster: Kubernetes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            address = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(address.query).items()}
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            content = yaml.safe_load(body) if body else None
            found = _PATH.match(address.path)
            if found is None:
                return self._answer(404, {"kind": "Status", "code": 404, "message": address.path})
            resource, name = found["resource"], found["name"]
            verb = _verb(self.command, name, query)
            whole = f"{resource}/{found['part']}" if found["part"] else resource
            cluster.asked.append(Asked(verb, found["group"] or "", whole))
            if "websocket" in self.headers.get("Upgrade", "").lower():
                # A client asks again without, as it does behind a proxy that speaks no websockets.
                return self._answer(503, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 503})
            if verb == "watch":
                return self._watch(resource, query)
            return self._answer(*_done(cluster, verb, resource, name, content, query))

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _do

        def _answer(self, code: int, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _watch(self, resource: str, query: dict[str, str]) -> None:
            """Tells nothing; Spark lists the pods besides."""
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.flush()
            self.rfile.read(1)  # until the client leaves

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler


def _verb(method: str, name: str | None, query: dict[str, str]) -> str:
    """Returns the verb of RBAC."""
    if method == "GET":
        return "watch" if query.get("watch") == "true" else "get" if name else "list"
    if method == "DELETE":
        return "delete" if name else "deletecollection"
    return {"POST": "create", "PATCH": "patch", "PUT": "update"}[method]


def _done(
    cluster: Kubernetes, verb: str, resource: str, name: str | None, content: Any, query: dict[str, str]
) -> tuple[int, dict[str, Any]]:
    """Does what is asked, and returns the status and the answer."""
    parts = [part for part in query.get("labelSelector", "").split(",") if part]
    wanted = dict(part.split("=", 1) for part in parts if "!=" not in part)
    unwanted = dict(part.split("!=", 1) for part in parts if "!=" in part)
    chosen = [
        (kind, key)
        for (kind, key), one in list(cluster.objects.items())
        if kind == resource
        and wanted.items() <= one["metadata"].get("labels", {}).items()
        and not unwanted.items() & one["metadata"].get("labels", {}).items()
    ]
    if verb == "create" or (verb == "patch" and (resource, name) not in cluster.objects):
        return 201, cluster.create(resource, content)
    if verb == "list":
        items = [
            cluster.refreshed(cluster.objects[key]) if key[0] == "pods" else cluster.objects[key] for key in chosen
        ]
        return 200, {"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}
    if verb in ("delete", "deletecollection"):
        for kind, key in [(resource, name)] if name else chosen:
            cluster.delete(kind, key)
        return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}
    kept = cluster.objects.get((resource, name))
    if kept is None:
        return 404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound"}
    if verb == "patch":
        for part, value in content.items():
            kept[part] = {**kept.get(part, {}), **value} if isinstance(value, dict) else value
    return 200, cluster.refreshed(kept) if resource == "pods" else kept


def image_environment(spark_home: Path, root: Path, python: str) -> dict[str, str]:
    """Returns the variables of the image, as the Dockerfile sets them, with the paths of this machine."""
    path = f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: os.environ[name] for name in ("HOME", "JAVA_HOME", "LANG") if name in os.environ}
    return {
        **kept, "PATH": path, "SPARK_HOME": str(spark_home), "PYTHONPATH": str(root), "HF_HUB_OFFLINE": "1",
        "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1", "SPARK_LOCAL_IP": "127.0.0.1",
    }  # fmt: skip
