"""A limited child answers as the model does here, fails in ways that are told apart, and never outlives us."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np
import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest
from onnx import TensorProto, helper, numpy_helper

from registry.errors import AnswerRefused, ArtifactRefused, ChildCrashed, ChildTimedOut, InputsRefused, ModelRaised
from registry.frames import Array
from registry.limited_child import LimitedChild
from registry.limits import ChildLimits
from registry.onnx_model import OnnxModel
from registry.types import InputBinding, OutputTensor, ScoreColumn, Signature

LIVING_PARENT = """
import sys
from pathlib import Path
import msgspec, numpy
from registry.limited_child import LimitedChild
from registry.types import Signature
child = LimitedChild()
child.load(Path(sys.argv[1]).read_bytes(), msgspec.json.decode(sys.argv[2], type=Signature))
print(child.pid, flush=True)
if sys.argv[3] == "busy":
    child.run({"x": numpy.zeros(1)}, timeout_s=600)
sys.stdin.read()
"""


def eventually(holds: Callable[[], bool], within_s: float) -> bool:
    """Whether `holds` becomes true in time."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def hanging() -> tuple[bytes, Signature]:
    """A model that loads at once and never answers, doubling nothing for ever."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["again"]), helper.make_node("Neg", ["v"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, None),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["", "yes", "x"], ["y"], body=body)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
        [numpy_helper.from_array(np.array(True), "yes")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    takes, gives = (InputBinding("x", "float32", ("x",), flat=True),), (OutputTensor("y", "float32"),)
    return made, Signature("regression", takes, gives, ScoreColumn("y"))


@pytest.fixture
def rows() -> dict[str, Array]:
    generator = np.random.default_rng(5)
    return {name: generator.normal(size=200) for name in "abcd"}


def test_it_answers_bit_for_bit_as_the_model_in_this_process(
    trained: Mapping[str, bytes], signature: Signature, rows: dict[str, Array]
) -> None:
    here = OnnxModel(trained["forest"], signature).run(rows)
    with LimitedChild() as child:
        child.load(trained["forest"], signature)
        there = child.run(rows)
    assert list(there) == list(here)
    for name in here:
        np.testing.assert_array_equal(there[name], here[name])
        assert there[name].dtype == here[name].dtype


def test_texts_go_in_and_come_out(trained: Mapping[str, bytes]) -> None:
    takes = (InputBinding("age", "float32", ("age",)), InputBinding("city", "string", ("city",)))
    gives = (OutputTensor("label", "int64"), OutputTensor("probabilities", "float32", 2))
    signature = Signature("binary", takes, gives, ScoreColumn("probabilities", 1), (0, 1))
    columns: dict[str, Array] = {
        "age": np.array([20.0, 60.0, 60.0]),
        "city": np.array(["Oslo", "", "Zürich\n\N{SNOWMAN}"], object),
    }
    with LimitedChild() as child:
        child.load(trained["columns"], signature)
        assert child.run(columns)["label"].tolist() == [0, 1, 1]


def test_the_limits_hold_and_it_says_which(trained: Mapping[str, bytes]) -> None:
    with LimitedChild(ChildLimits(cpu_s=100)) as child:
        child.load(trained["linear"])
        process = psutil.Process(child.pid)
        assert set(child.held) >= {"no core dump", "no file written", "no file opened", "processor", "nice"}
        assert process.nice() == 19
        if sys.platform == "linux":
            assert "memory" in child.held
            assert process.rlimit(psutil.RLIMIT_AS) == (2**30, 2**30)
            assert process.rlimit(psutil.RLIMIT_NOFILE) == (0, 0)
            assert process.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
            assert set(process.environ()) <= {"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "LC_CTYPE"}
            assert " (deleted)" in str(Path(f"/proc/{child.pid}/cwd").readlink())


def test_what_goes_wrong_in_the_model_leaves_the_child_well(
    trained: Mapping[str, bytes], signature: Signature, rows: dict[str, Array]
) -> None:
    with LimitedChild() as child:
        with pytest.raises(ModelRaised, match="nothing is loaded"):
            child.run(rows)
        with pytest.raises(ArtifactRefused, match="onnxruntime cannot load the file"):
            child.load(b"hello", signature)
        child.load(trained["linear"], signature)
        with pytest.raises(InputsRefused, match="feature 'a' is missing"):
            child.run({"b": rows["b"]})
        with pytest.raises(InputsRefused, match="'b' has 1 rows, and 'a' has 200"):
            child.run(rows | {"b": np.zeros(1)})
        with pytest.raises(InputsRefused, match="column 'a' is complex128"):
            child.run(rows | {"a": np.zeros(200, complex)})
        with pytest.raises(AnswerRefused, match="output 'probabilities' must be finite, and is not finite in row 7"):
            child.run(rows | {"a": np.where(np.arange(200) == 7, np.nan, rows["a"])})
        assert len(child.run(rows)["label"]) == 200


def test_a_model_that_hangs_is_killed_in_time_and_stays_failed() -> None:
    model_bytes, signature = hanging()
    with LimitedChild() as child:
        child.load(model_bytes, signature)
        began = time.monotonic()
        for _ in range(2):
            with pytest.raises(ChildTimedOut, match=r"more than 0\.3 s"):
                child.run({"x": np.ones(1)}, timeout_s=0.3)
        assert time.monotonic() - began < 2
        assert gone(child.pid)


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL"])
def test_a_crash_is_told_with_the_name_of_its_signal(
    trained: Mapping[str, bytes], signature: Signature, rows: dict[str, Array], name: str
) -> None:
    with LimitedChild() as child:
        child.load(trained["linear"], signature)
        os.kill(child.pid, signal.Signals[name])
        with pytest.raises(ChildCrashed, match=name) as crashed:
            child.run(rows)
        assert crashed.value.signal == name


def test_it_can_be_closed_in_the_middle_of_a_call_of_another_thread() -> None:
    model_bytes, signature = hanging()
    child = LimitedChild()
    child.load(model_bytes, signature)
    caught: list[BaseException] = []

    def call() -> None:
        try:
            child.run({"x": np.ones(1)}, timeout_s=60)
        except ChildCrashed as crashed:
            caught.append(crashed)

    caller = threading.Thread(target=call)
    caller.start()
    process = psutil.Process(child.pid)
    used = sum(process.cpu_times()[:2])
    assert eventually(lambda: sum(process.cpu_times()[:2]) > used, 10)
    child.close()
    caller.join(5)
    assert [type(error) for error in caught] == [ChildCrashed]


def test_calls_of_many_threads_get_their_own_answers(trained: Mapping[str, bytes], signature: Signature) -> None:
    wrong: list[int] = []
    model = OnnxModel(trained["linear"], signature)
    with LimitedChild() as child:
        child.load(trained["linear"], signature)

        def call(seed: int) -> None:
            generator = np.random.default_rng(seed)
            for n_rows in range(1, 40):
                columns = {name: generator.normal(size=n_rows) for name in "abcd"}
                if not np.allclose(child.run(columns)["probabilities"], model.run(columns)["probabilities"]):
                    wrong.append(seed)

        threads = [threading.Thread(target=call, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_nothing_is_left_behind(trained: Mapping[str, bytes]) -> None:
    temporary = Path(tempfile.gettempdir())
    with LimitedChild() as child:
        child.load(trained["linear"])
        pid = child.pid
    assert gone(pid)
    with LimitedChild() as never_asked:
        folder = never_asked._process._folder
    assert folder.parent == temporary
    assert not folder.exists()


@pytest.mark.parametrize("busy", [False, True])
def test_kill_minus_nine_of_the_parent_ends_the_child_within_a_second(tmp_path: Path, busy: bool) -> None:
    """Also in the middle of a run, where no line of Python would look at anything."""
    model_bytes, signature = hanging()
    file = tmp_path / "model.onnx"
    file.write_bytes(model_bytes)
    said = [str(file), msgspec.json.encode(signature).decode(), "busy" if busy else "idle"]
    parent = subprocess.Popen(
        [sys.executable, "-c", LIVING_PARENT, *said], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        if busy:
            used = sum(child.cpu_times()[:2])
            assert eventually(lambda: sum(child.cpu_times()[:2]) > used + 0.1, 20)
        parent.kill()
        assert eventually(lambda: gone(child.pid), 1.0)
