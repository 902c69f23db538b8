"""A real Hadoop on this machine: a file system (HDFS), and YARN with two machines, all in one JVM.

In: Java, and the jars of Hadoop's own cluster for tests, which Spark fetches from Maven. Out: the folder of the configuration
by which ``spark-submit --master yarn`` finds it. Containers are processes with folders of their own, as on any YARN.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pyspark
from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway

SPARK_HOME = Path(pyspark.__file__).parent
PACKAGES = (
    "org.apache.hadoop:hadoop-client-minicluster:3.5.0",
    "org.junit.jupiter:junit-jupiter-api:5.12.2",
    "org.bouncycastle:bcpkix-jdk18on:1.82",
)
_CONF = {
    "yarn.resourcemanager.scheduler.class": "org.apache.hadoop.yarn.server.resourcemanager.scheduler.fifo.FifoScheduler",
    "yarn.scheduler.minimum-allocation-mb": "256",
    "yarn.nodemanager.vmem-check-enabled": "false",
    "yarn.nodemanager.pmem-check-enabled": "false",
    "yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage": "100",
}


def fetched_jars(folder: Path, packages: tuple[str, ...], *excluded: str) -> list[Path]:
    """Returns the jars of packages and of what they need, which Spark's Ivy brings into a folder."""
    nothing = folder / "nothing.py"
    folder.mkdir(parents=True, exist_ok=True)
    nothing.touch()
    command = [SPARK_HOME / "bin" / "spark-submit", "--master", "local[1]", "--conf", f"spark.jars.ivy={folder}"]
    command += ["--packages", ",".join(packages), *(("--exclude-packages", ",".join(excluded)) if excluded else ())]
    environment = {**os.environ, "SPARK_HOME": str(SPARK_HOME)}
    subprocess.run([*command, nothing], env=environment, check=True, capture_output=True)
    return sorted((folder / "jars").glob("*.jar"))


class YarnCluster:
    """A cluster that runs as long as this process, or until ``stop()``.

    Args:
        folder: Folder of its files and logs; ``conf`` in it holds the configuration.
        jars: Jars of ``PACKAGES``.
        memory: Megabytes that each of the two machines gives to containers.
    """

    def __init__(self, folder: Path, jars: list[Path], memory: int = 6144) -> None:
        self.folder, self.conf = folder, folder / "conf"
        self.conf.mkdir(parents=True)
        ours = [
            jar for name in ("py4j-*", "log4j-*", "slf4j-api-*") for jar in (SPARK_HOME / "jars").glob(f"{name}.jar")
        ]
        path = [*ours, *(jar for jar in jars if "slf4j" not in jar.name)]
        with open(folder / "hadoop.log", "w") as log:
            port, process = launch_gateway(
                jarpath=str(path[0]), classpath=os.pathsep.join(map(str, path)), die_on_exit=True, javaopts=["-Xmx1g"],
                redirect_stdout=log, redirect_stderr=log, cwd=str(folder), return_proc=True,
            )  # fmt: skip
        self._process = process
        self._java = JavaGateway(gateway_parameters=GatewayParameters(port=port))
        hadoop = self._java.jvm.org.apache.hadoop
        conf = hadoop.yarn.conf.YarnConfiguration()
        given = {"hadoop.tmp.dir": str(folder / "tmp"), "hdfs.minidfs.basedir": str(folder / "hdfs"), **_CONF}
        given["yarn.minicluster.yarn.nodemanager.resource.memory-mb"] = str(memory)
        for name, value in given.items():
            conf.set(name, value)
        self._hdfs = hadoop.hdfs.MiniDFSCluster.Builder(conf).numDataNodes(1).build()
        conf.set("fs.defaultFS", self._hdfs.getURI().toString())
        self._yarn = hadoop.yarn.server.MiniYARNCluster("qarm", 2, 1, 1)
        self._yarn.init(conf)
        self._yarn.start()
        self._write(self._yarn.getConfig())

    def _write(self, conf: object) -> None:
        conf.unset("net.topology.node.switch.mapping.impl")  # a class of Hadoop's tests, which Spark does not have
        for name in ("core-site.xml", "yarn-site.xml"):
            output = self._java.jvm.java.io.FileOutputStream(str(self.conf / name))
            conf.writeXml(output)
            output.close()

    def said(self) -> str:
        """Returns what the containers wrote to their standard output, and the end of their logs."""
        files = sorted(self.folder.rglob("container_*/std*"))
        return "\n".join(f"{file}:\n{file.read_text()[-4000:]}" for file in files)

    def containers(self) -> int:
        """Returns how many containers have run."""
        return len(set(self.folder.rglob("container_*/stdout")))

    def stop(self) -> None:
        """Ends it."""
        try:
            self._yarn.stop()
            self._hdfs.shutdown()
            self._java.shutdown()
        finally:
            self._process.kill()
            self._process.wait()
