"""Scoring with Dask.

    frame = skimjit.dask.predict(frame, "net.onnx", column="bytes", pictures="torchvision")

Partitions are scored where they are, by map_partitions; each process compiles the artifact once.
"""

from __future__ import annotations

from typing import Any, Optional

from ._scoring import Pictures, Source, artifact, checked_threads, score

__all__ = ["predict"]


def predict(
    frame: Any,
    model: Source,
    *,
    column: str,
    output: str = "scores",
    pictures: Pictures = None,
    threads: Optional[int] = None,
    keep: bool = False,
) -> Any:
    """A Dask data frame with a column of outputs, each a flat array of float32.

    Arguments:
        frame: a dask.dataframe.DataFrame.
        model: an Engine, a Model, a path or bytes of one.
        column: inputs, arrays of float32 in C × H × W order; or pictures.
        output: column that the outputs get.
        pictures: how pictures (bytes of files, paths, pixels) become inputs: "caffe", "torchvision", "model" (as the
            model's file says) or a vision.Preprocess; None: the column has inputs.
        threads: of a run; None: one.
        keep: whether `column` stays.
    """
    from dask.delayed import delayed

    # Once in the graph, however many partitions there are.
    sent = delayed(artifact(model))
    meta = frame._meta.assign(**{output: None}).astype({output: object})
    if not keep:
        meta = meta.drop(columns=[column])
    options = (column, output, pictures, checked_threads(threads), keep)
    return frame.map_partitions(_partition, sent, *options, meta=meta)


def _partition(part: Any, contents: bytes, column: str, output: str, pictures: Pictures, threads: int, keep: bool) -> Any:
    """A pandas.DataFrame with its outputs."""
    scores = score(contents, threads, part[column], pictures)
    scored = part.assign(**{output: list(scores.reshape(len(part), -1))})
    return scored if keep else scored.drop(columns=[column])
