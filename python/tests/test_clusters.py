"""Scoring data sets on Ray, Spark and Dask: the photographs of the shared data, or the digits that come with the project."""

import contextlib
import os
import pathlib
import shutil
import signal
import sys

import numpy
import pytest
import skimjit
import skimjit.ray
from conftest import LENET, ROOT
from skimjit import vision
from skimjit._scoring import artifact, inputs, score


@pytest.fixture(scope="module")
def photographs():
    """A network, a folder of pictures, how they become inputs, and the classes that one process says they are."""
    shared = pathlib.Path(os.environ.get("SKIMJIT_DATA", ROOT / "../shared/data"))
    squeezenet = shared / "models/squeezenet_v1.0_dc"
    if squeezenet.exists():
        model = skimjit.Model(squeezenet / "model.caffemodel", prototxt=squeezenet / "deploy.prototxt")
        folder, how = shared / "imagenet/images256", "caffe"
    else:
        model, folder, how = skimjit.Model(LENET), ROOT / "models/demo", "model"
    folder = folder.resolve()
    files = sorted(str(path) for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    engine = skimjit.compile(model, batch=8, threads=1)
    scores = numpy.concatenate([score_of(engine, files[first : first + 50], how) for first in range(0, len(files), 50)])
    return engine, str(folder), how, dict(zip(files, scores.argmax(1)))


def score_of(engine, files, how):
    made = engine.run(vision.load(files, engine.model if how == "model" else how, model=engine.model))
    return made.reshape(len(files), -1)


def classes(paths, scores):
    """The best class by path."""
    clean = [path.removeprefix("file:") for path in paths]
    found = dict(zip(clean, (int(numpy.asarray(row).argmax()) for row in scores)))
    assert len(found) == len(clean), "a row that is there twice"
    return found


class Dies:
    """Called, it kills its process: once in all processes, at the second call there."""

    def __init__(self, folder):
        self.mark, self.calls = folder / "died", 0

    def __call__(self):
        self.calls += 1
        if self.calls == 2:
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.mark, os.O_CREAT | os.O_EXCL))
                os.kill(os.getpid(), signal.SIGKILL)


def test_columns_become_inputs(engine, digits):
    flat = [row.reshape(-1) for row in digits]
    for column in (digits, flat, list(digits), digits.reshape(10, -1)):
        assert numpy.array_equal(inputs(column, engine.inputs[0].shape), digits)
    assert numpy.shares_memory(inputs(digits, engine.inputs[0].shape), digits)
    with pytest.raises(skimjit.ShapeError, match="expected"):
        inputs(digits[:, :, 1:], engine.inputs[0].shape)
    assert score(artifact(LENET), 1, digits[:0], None).shape == (0, 10)
    assert artifact(engine) == engine.to_bytes()


def test_scorer_alone(engine, digits):
    """Ray asks for nothing but a class."""
    scorer = skimjit.ray.Scorer(engine, column="x", output="y")
    batch = {"x": digits, "name": numpy.arange(10)}
    made = scorer(batch)
    assert sorted(made) == ["name", "y"] and numpy.array_equal(made["y"], engine.run(digits))
    assert numpy.array_equal(scorer({"x": digits[:3]})["y"], engine.run(digits[:3]))
    assert sorted(skimjit.ray.Scorer(engine, column="x", keep=True)(batch)) == ["name", "scores", "x"]


@pytest.mark.filterwarnings("ignore")
def test_ray(photographs, tmp_path, monkeypatch):
    # It would tell somebody on the network.
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray = pytest.importorskip("ray", reason="ray is not installed")
    pytest.importorskip("ray.data", reason="ray[data] is not installed")
    from ray.cluster_utils import Cluster

    engine, folder, how, expected = photographs
    node = {"object_store_memory": 2 * 10**8}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **node})
    try:
        cluster.add_node(num_cpus=2, **node)
        # Workers find the tests' own classes.
        paths = os.pathsep.join([str(pathlib.Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        environment = {"env_vars": {"PYTHONPATH": paths}}
        ray.init(address=cluster.address, log_to_driver=False, configure_logging=False, runtime_env=environment)
        ray.data.DataContext.get_current().enable_progress_bars = False
        data = ray.data.read_binary_files(folder, include_paths=True, file_extensions=["jpg", "jpeg", "png"])
        scored = data.repartition(20).map_batches(
            DyingScorer,
            fn_constructor_args=(Dies(tmp_path), skimjit.ray.artifact(engine)),
            fn_constructor_kwargs={"column": "bytes", "pictures": how},
            batch_format="numpy",
            batch_size=7,
            zero_copy_batch=True,
            compute=ray.data.ActorPoolStrategy(size=2),
        )
        rows = scored.take_all()
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert classes([row["path"] for row in rows], [row["scores"] for row in rows]) == expected
    assert (tmp_path / "died").exists()


class DyingScorer:
    """A Scorer whose process dies once."""

    def __init__(self, dies, *given, **options):
        self.dies, self.scorer = dies, skimjit.ray.Scorer(*given, **options)

    def __call__(self, batch):
        self.dies()
        return self.scorer(batch)


@pytest.mark.filterwarnings("ignore")
def test_spark(photographs, tmp_path, monkeypatch):
    pyspark = pytest.importorskip("pyspark", reason="pyspark is not installed")
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    from pyspark.sql import SparkSession
    from pyspark.sql.functions import pandas_udf

    import skimjit.spark

    engine, folder, how, expected = photographs
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    for name in ("PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"):
        monkeypatch.setenv(name, sys.executable)
    monkeypatch.setenv("SPARK_HOME", str(pathlib.Path(pyspark.__file__).parent))
    builder = SparkSession.builder.master("local-cluster[2,1,1024]").appName("skimjit")
    settings = {
        "spark.ui.enabled": False,
        "spark.sql.execution.arrow.maxRecordsPerBatch": 9,
        "spark.executor.memory": "512m",
        "spark.executorEnv.PYTHONPATH": str(pathlib.Path(__file__).parent),
    }
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    try:
        spark.sparkContext.setLogLevel("OFF")
        dies = Dies(tmp_path)

        def through(paths: pandas.Series) -> pandas.Series:
            dies()
            return paths

        predict = skimjit.spark.predict_udf(engine, pictures=how)
        photos = spark.read.format("binaryFile").load(folder).repartition(8)
        photos = photos.where(photos.path.rlike(r"\.(jpg|jpeg|png)$"))
        photos = photos.withColumn("path", pandas_udf(through, "string")("path"))
        rows = photos.select("path", predict("content").alias("scores")).collect()
    finally:
        spark.stop()
    assert classes([row.path for row in rows], [row.scores for row in rows]) == expected
    assert (tmp_path / "died").exists()


@pytest.mark.filterwarnings("ignore")
def test_dask(photographs, tmp_path):
    pytest.importorskip("dask.dataframe", reason="dask is not installed")
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    import dask.dataframe

    import skimjit.dask

    engine, _, how, expected = photographs
    frame = dask.dataframe.from_pandas(pandas.DataFrame({"path": sorted(expected)}), npartitions=12)
    frame = frame.map_partitions(with_bytes, Dies(tmp_path), meta={"path": object, "bytes": object})
    workers = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    with distributed.LocalCluster(host="127.0.0.1", **workers) as cluster, distributed.Client(cluster):
        rows = skimjit.dask.predict(frame, engine, column="bytes", pictures=how).compute()
    assert list(rows.columns) == ["path", "scores"]
    assert classes(rows["path"], rows["scores"]) == expected
    assert (tmp_path / "died").exists()


def with_bytes(part, dies):
    """Reads files, unless the process dies of it."""
    for _ in range(2):
        dies()
    return part.assign(bytes=[pathlib.Path(path).read_bytes() for path in part["path"]])
