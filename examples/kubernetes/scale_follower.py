"""Sets how many followers work, 0 or 1, and waits until it is so. It runs in a pod whose account may scale qarm-follow.

    python scale_follower.py 0    # before `qarm run`
    python scale_follower.py 1    # after it

In: the account that Kubernetes mounts into the pod. Out: the scale of the stateful set; exit code 1 and one line if it fails.
"""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path(os.environ.get("QARM_ACCOUNT", "/var/run/secrets/kubernetes.io/serviceaccount"))
SERVER = os.environ.get("QARM_KUBERNETES", "https://kubernetes.default.svc")
LIMIT = 600  # seconds; a follower ends its batch first


def ask(method: str, body: dict | None = None) -> dict:
    """Returns the scale of the stateful set, after a change if ``body`` names one."""
    namespace = (ACCOUNT / "namespace").read_text().strip()
    address = f"{SERVER}/apis/apps/v1/namespaces/{namespace}/statefulsets/qarm-follow/scale"
    headers = {"Authorization": f"Bearer {(ACCOUNT / 'token').read_text().strip()}"}
    headers["Content-Type"] = "application/merge-patch+json"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data=data, method=method, headers=headers)
    trusted = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt")) if SERVER.startswith("https") else None
    with urllib.request.urlopen(request, timeout=30, context=trusted) as answer:
        return json.load(answer)


def scale(wanted: int) -> None:
    """Sets the number and, when it is 0, waits until the follower has ended."""
    ask("PATCH", {"spec": {"replicas": wanted}})
    end = time.monotonic() + LIMIT
    while wanted == 0 and ask("GET").get("status", {}).get("replicas", 0) > 0:
        if time.monotonic() > end:
            raise TimeoutError(
                f"The follower still works after {LIMIT} seconds. Look at it: kubectl logs qarm-follow-0"
            )
        time.sleep(2)


if __name__ == "__main__":
    if sys.argv[1:] not in (["0"], ["1"]):
        sys.exit("The number of followers must be 0 or 1. Run: python scale_follower.py 0")
    try:
        scale(int(sys.argv[1]))
    except urllib.error.HTTPError as error:
        # No follower at all is as good as a stopped one.
        if error.code != 404:
            sys.exit(f"Kubernetes refused to scale qarm-follow: {error.code} {error.reason}. Apply access.yaml.")
    except OSError as error:
        sys.exit(f"qarm-follow could not be scaled: {error}")
