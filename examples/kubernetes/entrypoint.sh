#!/bin/bash
# Starts what a pod is for. Spark passes "driver" or "executor" and describes the rest in variables; anything else is a
# command, for example "qarm run".
set -euo pipefail

case "${1:-}" in
  driver)
    shift
    # Under Kubernetes this pod is the driver, so that spark-submit works in client mode here.
    command=("$SPARK_HOME/bin/spark-submit" --deploy-mode client --conf "spark.driver.bindAddress=$SPARK_DRIVER_BIND_ADDRESS" "$@")
    ;;
  executor)
    options=()
    while IFS= read -r -d '' variable; do
      [[ $variable == SPARK_JAVA_OPT_* ]] && options+=("${variable#*=}")
    done < <(env -0 | sort -z -V)
    command=("${JAVA_HOME:+$JAVA_HOME/bin/}java" "${options[@]}" "-Xms$SPARK_EXECUTOR_MEMORY" "-Xmx$SPARK_EXECUTOR_MEMORY"
      -cp "${SPARK_CONF_DIR:-/opt/spark/conf}:$SPARK_HOME/jars/*:${SPARK_CLASSPATH:-}"
      org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend
      --driver-url "$SPARK_DRIVER_URL" --executor-id "$SPARK_EXECUTOR_ID" --cores "$SPARK_EXECUTOR_CORES"
      --app-id "$SPARK_APPLICATION_ID" --hostname "$SPARK_EXECUTOR_POD_IP"
      --resourceProfileId "$SPARK_RESOURCE_PROFILE_ID" --podName "$SPARK_EXECUTOR_POD_NAME")
    ;;
  *)
    command=("$@")
    ;;
esac
# tini hands signals on and collects the Python workers that end.
if command -v tini >/dev/null; then exec tini -s -- "${command[@]}"; fi
exec "${command[@]}"
