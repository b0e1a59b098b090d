"""Scoring with Ray.

    scores = ray.data.read_binary_files("photos").map_batches(
        skimjit.ray.Scorer,
        fn_constructor_args=(skimjit.ray.artifact("net.onnx"),),
        fn_constructor_kwargs={"column": "bytes", "pictures": "torchvision"},
        batch_format="numpy", batch_size=32, zero_copy_batch=True, concurrency=4, num_cpus=1,
    )

Ray starts the actors, shares out the batches, and gives a lost one to another actor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from ._scoring import Pictures, Source, artifact, checked_threads, engine, score

if TYPE_CHECKING:
    from ._typing import Floats

__all__ = ["Scorer", "artifact"]


class Scorer:
    """A callable class for ray.data.Dataset.map_batches with batch_format="numpy": an engine for each actor. Any batch
    size will do, and the last batch may be shorter: nothing is compiled again.

    Arguments:
        model: what artifact() gives, or what it takes where every actor can read it.
        column: inputs, float32 N × C × H × W (read where they are) or flat; or pictures.
        output: column that the outputs get, N × classes or whatever shape the network's output has.
        pictures: how pictures (bytes of files, paths, pixels) become inputs: "caffe", "torchvision", "model" (as the
            model's file says) or a vision.Preprocess; None: the column has inputs.
        threads: of a run; None: one, as there is an actor for each core.
        keep: whether the columns of a batch stay beside the output; False: all but `column`.
    """

    def __init__(
        self,
        model: Source,
        *,
        column: str = "data",
        output: str = "scores",
        pictures: Pictures = None,
        threads: Optional[int] = None,
        keep: bool = False,
    ) -> None:
        self._contents = artifact(model)
        self._threads = checked_threads(threads)
        self._column, self._output, self._pictures, self._keep = column, output, pictures, keep
        # Now, and not in the first batch.
        engine(self._contents, self._threads)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch with its outputs."""
        scores: Floats = score(self._contents, self._threads, batch[self._column], self._pictures)
        rest = {name: values for name, values in batch.items() if self._keep or name != self._column}
        return {**rest, self._output: scores}
