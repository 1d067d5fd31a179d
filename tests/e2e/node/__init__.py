"""A single-node Kubernetes for tests, where there is no container engine and no image registry.

from tests.e2e.node import Node

with Node() as node:
    print(node.kubectl("get", "nodes"))
"""

from tests.e2e.node.cluster import Cluster, existing, wait_until
from tests.e2e.node.errors import NodeError
from tests.e2e.node.node import Node

__all__ = ["Cluster", "Node", "NodeError", "existing", "wait_until"]
