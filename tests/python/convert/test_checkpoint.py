# SPDX-License-Identifier: Apache-2.0
"""Files of torch.save and of safetensors, as they should be, as they should not, and as somebody would like them."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converting import HERE, Storage, Tensor, save
from ssmd.convert.checkpoint import Checkpoint, load
from ssmd.convert.errors import ConvertError
from ssmd.convert.torch_file import Foreign

NUMBERS = Storage("0", np.arange(24, dtype=np.float32))


class Trainer:
    """A class that the reader does not know."""

    def __init__(self) -> None:
        self.rate = 0.5


class Harm:
    """What somebody might hide in a checkpoint."""

    def __reduce__(self) -> Any:
        return (os.mkdir, (self.where,))

    def __init__(self, where: Path) -> None:
        self.where = str(where)


def refused(path: Path) -> str:
    """Why it is not read."""
    with pytest.raises(ConvertError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def torch_file__views_of_one_storage__have_their_shapes_and_strides(tmp_path: Path) -> None:
    saved = {
        "whole": Tensor(NUMBERS, 0, (4, 6), (6, 1)),
        "turned": Tensor(NUMBERS, 0, (6, 4), (1, 6)),
        "part": Tensor(NUMBERS, 7, (2, 3), (6, 1)),
        "one": Tensor(NUMBERS, 23, (), ()),
        "none": Tensor(NUMBERS, 24, (0, 3), (3, 1)),
    }
    tensors = load(save(tmp_path / "f.pt", OrderedDict(saved), NUMBERS)).tensors
    whole: NDArray[Any] = np.arange(24).reshape(4, 6)
    assert {name: tensor.dtype for name, tensor in tensors.items()} == dict.fromkeys(saved, np.dtype(np.float32))
    for name, expected in (("whole", whole), ("turned", whole.T), ("part", whole[1:3, 1:4]), ("one", whole[3, 5])):
        np.testing.assert_array_equal(tensors[name], expected)
    assert tensors["none"].shape == (0, 3)


def torch_file__tensor_marked_conjugate_or_negative__is_that(tmp_path: Path) -> None:
    storage = Storage("0", np.array([1 + 2j, 3 - 4j]))
    saved = {
        "plain": Tensor(storage, 0, (2,), (1,)),
        "conj": Tensor(storage, 0, (2,), (1,), conj=True),
        "neg": Tensor(storage, 0, (2,), (1,), neg=True),
    }
    tensors = load(save(tmp_path / "f.pt", saved, storage)).tensors
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
        "plain": [1 + 2j, 3 - 4j],
        "conj": [1 - 2j, 3 + 4j],
        "neg": [-1 - 2j, -3 + 4j],
    }


@pytest.mark.parametrize("under", ["state_dict", "model_state_dict", "model"])
def torch_file__state_dict_under_a_name__is_taken_and_the_rest_is_other(under: str, tmp_path: Path) -> None:
    saved = {under: {"w": Tensor(NUMBERS, 0, (24,), (1,)), "steps": 3}, "epoch": 7, "trainer": Trainer()}
    found = load(save(tmp_path / "f.pt", saved, NUMBERS))
    assert list(found.tensors) == ["w"]
    assert found.other["epoch"] == 7
    trainer = found.other["trainer"]
    assert isinstance(trainer, Foreign) and trainer.kind == f"{__name__}.Trainer" and trainer.state == {"rate": 0.5}


def torch_file__code_in_the_pickle__does_not_run(tmp_path: Path) -> None:
    harm = Harm(tmp_path / "harm")
    found = load(save(tmp_path / "f.pt", {"w": Tensor(NUMBERS, 0, (24,), (1,)), "more": harm}, NUMBERS))
    assert found.other["more"].args == (harm.where,)
    assert not Path(harm.where).exists()


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor(NUMBERS, 1, (24,), (1,)),
        Tensor(NUMBERS, -1, (3,), (1,)),
        Tensor(NUMBERS, 4, (3,), (-1,)),
        Tensor(NUMBERS, 0, (2, 3), (22, 1)),
        Tensor(NUMBERS, 0, (1 << 40,), (0,)),
        Tensor(NUMBERS, 0, (3,), (1, 1)),
        Tensor(NUMBERS, 0, (-3, -3), (1, 1)),
    ],
)
def torch_file__tensor_outside_of_its_storage__is_refused(tensor: Tensor, tmp_path: Path) -> None:
    assert "does not make sense" in refused(save(tmp_path / "f.pt", {"w": tensor}, NUMBERS))


def torch_file__whole_module__says_how_to_save_its_weights(tmp_path: Path) -> None:
    assert f"holds a whole {__name__}.Trainer" in refused(save(tmp_path / "f.pt", Trainer()))


def torch_file__older_torch__says_how_to_save_it_again(tmp_path: Path) -> None:
    path = tmp_path / "f.pt"
    path.write_bytes(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.")
    assert "written by torch before 1.6" in refused(path)


def damaged() -> Iterator[bytes]:
    """Every truncation, and every byte with a bit turned."""
    whole = (HERE / "lstm" / "model.pt").read_bytes()
    for at in range(0, len(whole)):
        yield whole[:at]
        yield whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :]


def torch_file__every_truncation_and_every_flipped_bit__is_refused_or_changes_nothing(tmp_path: Path) -> None:
    right = load(HERE / "lstm" / "model.pt").tensors
    read = 0
    for number, content in enumerate(damaged()):
        path = tmp_path / str(number)  # a new one each time: tensors of the last one may still be mapped
        path.write_bytes(content)
        try:
            found = load(path)
        except ConvertError:
            continue
        finally:
            path.unlink()
        read += 1
        assert found.tensors.keys() == right.keys()
        for name, tensor in found.tensors.items():
            np.testing.assert_array_equal(tensor, right[name])
    assert 0 < read < 7013  # padding, dates and the like are not covered by any checksum


def safetensors_of(dtype: str, shape: list[int], data: bytes) -> bytes:
    """A file with one tensor, w."""
    header = json.dumps({"w": {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    return len(header).to_bytes(8, "little") + header + data


def safetensors_file__bfloat16__is_widened(tmp_path: Path) -> None:
    values = np.array([[1.0, -2.5, 3.140625]], np.float32)
    halves = (values.view(np.uint32) >> 16).astype(np.uint16)
    (tmp_path / "f").write_bytes(safetensors_of("BF16", [1, 3], halves.tobytes()))
    np.testing.assert_array_equal(load(tmp_path / "f").tensors["w"], values)


def safetensors_file__length_that_begins_like_a_pickle__is_read_all_the_same(tmp_path: Path) -> None:
    content = safetensors_of("F32", [3], bytes(12))
    length = int.from_bytes(content[:8], "little")
    padded = (0x280).to_bytes(8, "little") + content[8:-12] + b" " * (0x280 - length) + content[-12:]
    (tmp_path / "f").write_bytes(padded)
    assert padded.startswith(b"\x80\x02") and load(tmp_path / "f").tensors["w"].shape == (3,)


@pytest.mark.parametrize("size", [9, 20, 60])
def safetensors_file__truncated__is_refused(size: int, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(safetensors_of("F32", [3], bytes(12))[:size])
    refused(tmp_path / "f")


def safetensors_file__type_that_numpy_has_not__is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(safetensors_of("F8_E4M3", [3], bytes(3)))
    assert "tensor w is stored as F8_E4M3" in refused(tmp_path / "f")


def load__directory_without_weights__says_what_is_looked_for(tmp_path: Path) -> None:
    assert "neither pytorch_model.bin and model.safetensors" in refused(tmp_path)


def load__no_file__is_refused(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "f")


@pytest.mark.parametrize("content", [b"", b"RIFF....WAVEfmt "])
def load__other_file__is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(content)
    assert "is no checkpoint that is known here" in refused(tmp_path / "f")


def checkpoint__tensor_that_nobody_took__is_surplus(tmp_path: Path) -> None:
    found = Checkpoint({name: np.zeros((2, 3)) for name in "abcdef"}, {}, tmp_path)
    assert found.take("a", 2, None).shape == (2, 3)
    found.drop("b")
    with pytest.raises(ConvertError, match="mine knows no tensor c, d, e and 1 more"):
        found.refuse_surplus("mine")
