"""Scoring with Spark.

    predict = skimjit.spark.predict_udf("net.onnx", pictures="torchvision")
    photos = spark.read.format("binaryFile").load("photos")
    photos.select("path", predict("content").alias("scores"))

The artifact is broadcast once; each Python process of an executor compiles it once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Optional

from ._errors import OptionError
from ._scoring import Pictures, Source, artifact, checked_threads, score

__all__ = ["predict_udf"]


def predict_udf(
    model: Source, *, pictures: Pictures = None, threads: Optional[int] = None, session: Optional[Any] = None
) -> Any:
    """Makes a pandas UDF from a column to the network's outputs, as flat array<float>.

    Arguments:
        model: an Engine, a Model, a path or bytes of one.
        pictures: how pictures (binary: the bytes of files; string: paths) become inputs: "caffe", "torchvision", "model"
            (as the model's file says) or a vision.Preprocess; None: the column has inputs as array<float>, in C × H × W
            order.
        threads: of a run; None: one, as Spark runs a task for each core.
        session: the SparkSession; None: the active one.

    Needs pyspark, pandas and pyarrow.
    """
    import pandas
    from pyspark.sql import SparkSession, functions

    spark = session or SparkSession.getActiveSession()
    if spark is None:
        raise OptionError("session: found no active SparkSession, expected one")
    sent = spark.sparkContext.broadcast(artifact(model))
    count = checked_threads(threads)

    def predict(columns: Iterator[Any]) -> Iterator[Any]:
        for column in columns:
            scores = score(sent.value, count, column, pictures)
            yield pandas.Series(list(scores.reshape(len(column), -1)))

    # Spark reads the kind of function from its hints; pandas is not there when this file is read.
    predict.__annotations__ = {"columns": Iterator[pandas.Series], "return": Iterator[pandas.Series]}
    columnwise: Any = functions
    return columnwise.pandas_udf(predict, "array<float>")
