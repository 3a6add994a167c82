"""Image folders: labels by the agreed order, pixels as worked by hand, and what is no such folder refused by name."""

import numpy as np
import pytest
import torch

pytest.importorskip("torchvision")
from PIL import Image

from fedlaw_flwr.silo.task import load_silo_task
from fedlaw_flwr.tasks.schema import differences
from fedlaw_flwr.training import evaluate, train


def paint(path, grey, size=(8, 8), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = grey if isinstance(grey, tuple) else (grey,) * len(Image.new(mode, (1, 1)).getbands())
    Image.new(mode, size, colour if len(colour) > 1 else colour[0]).save(path)


def make(root, **options):
    return load_silo_task("image_folder", str(root), {"classes": "cat, dog", "side": 8, "test-share": 0, **options})


def test_labels_follow_the_agreed_order_also_where_a_silo_lacks_a_class(tmp_path):
    paint(tmp_path / "dog" / "a.png", 255)
    paint(tmp_path / "dog" / "deeper" / "b.png", 255)
    assert make(tmp_path).load_train().targets.tolist() == [1, 1]
    assert make(tmp_path, classes="dog,ant").load_train().targets.tolist() == [0, 0]
    assert make(tmp_path, classes="ant,bee,cat,dog").build_model(0)[-1].out_features == 4


def test_a_pixel_is_its_share_of_255_less_the_mean_over_the_deviation(tmp_path):
    paint(tmp_path / "cat" / "a.png", (255, 0, 51))
    found = make(tmp_path).load_train().inputs
    assert found.shape == (1, 3, 8, 8)
    expected = [(1 - 0.5) / 0.5, (0 - 0.5) / 0.5, (0.2 - 0.5) / 0.5]
    torch.testing.assert_close(found[0, :, 3, 3], torch.tensor(expected))
    found = make(tmp_path, mean=0.2, deviation=0.1).load_train().inputs
    torch.testing.assert_close(found[0, 2, 0, 0], torch.tensor(0.0), atol=1e-6, rtol=0)


def test_grey_and_colour_files_both_become_the_channels_agreed(tmp_path):
    paint(tmp_path / "cat" / "a.png", 51, mode="L")
    paint(tmp_path / "cat" / "b.png", 51, mode="RGB")
    paint(tmp_path / "cat" / "c.png", (51, 51, 51, 0), mode="RGBA")
    for channels in (1, 3):
        found = make(tmp_path, channels=channels).load_train().inputs
        torch.testing.assert_close(found, torch.full((3, channels, 8, 8), (0.2 - 0.5) / 0.5))


def test_the_shorter_side_is_fitted_and_the_middle_kept(tmp_path):
    pixels = np.zeros((16, 48), np.uint8)
    pixels[:, 16:32] = 255  # the middle third of a wide image
    (tmp_path / "cat").mkdir()
    Image.fromarray(pixels).save(tmp_path / "cat" / "wide.png")
    found = make(tmp_path, channels=1).load_train().inputs
    torch.testing.assert_close(found[0, 0, :, 1:-1], torch.ones(8, 6))


def test_a_photograph_is_turned_upright(tmp_path):
    image = Image.fromarray(np.repeat([[0], [255]], 4, axis=0).astype(np.uint8).repeat(8, axis=1))
    orientation = image.getexif()
    orientation[0x0112] = 3  # upside down
    (tmp_path / "cat").mkdir()
    image.save(tmp_path / "cat" / "a.png", exif=orientation)
    found = make(tmp_path, channels=1).load_train().inputs[0, 0]
    assert float(found[0].min()) == 1 and float(found[-1].max()) == -1


def test_train_and_test_folders_are_the_split(tmp_path):
    for index in range(3):
        paint(tmp_path / "train" / "cat" / f"{index}.png", index)
    paint(tmp_path / "test" / "dog" / "x.png", 255)
    task = make(tmp_path, **{"test-share": 0.5})
    assert (task.load_train().targets.tolist(), task.load_test().targets.tolist()) == ([0, 0, 0], [1])


def test_else_a_share_of_each_class_is_held_back_by_content(tmp_path):
    for index in range(10):
        paint(tmp_path / "a" / "cat" / f"{index}.png", index)
        paint(tmp_path / "a" / "dog" / f"{index}.png", 100 + index)
        paint(tmp_path / "b" / "cat" / f"{9 - index}.png", index)  # the same images, named the other way round
        paint(tmp_path / "b" / "dog" / f"{9 - index}.png", 100 + index)
    first, again = (make(tmp_path / silo, **{"test-share": 0.2, "split-seed": 5}) for silo in "ab")
    assert sorted(first.load_test().targets.tolist()) == [0, 0, 1, 1]
    assert torch.equal(first.load_test().inputs, again.load_test().inputs)
    assert torch.equal(first.load_train().inputs, again.load_train().inputs)
    other = make(tmp_path / "a", **{"test-share": 0.2, "split-seed": 6})
    assert not torch.equal(first.load_test().inputs, other.load_test().inputs)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"classes": "cat"}, "option classes='cat': two or more different names"),
        ({"classes": "cat,cat"}, "two or more different names"),
        ({"side": 20}, "option side=20: a multiple of 8 is expected"),
        ({"channels": 2}, r"option channels=2: 1 \(grey\) or 3 \(colour\)"),
        ({"deviation": 0}, "option deviation=0: .*greater than 0"),
        ({"test-share": 1}, "option test-share=1: .*less than 1"),
        ({"clases": "a"}, "there is no option 'clases'; did you mean 'classes'"),
        ({"classes": "dog,ant"}, r"has the folder 'cat'; agreed classes are dog, ant"),
    ],
)
def test_a_wrong_option_is_named(options, said, tmp_path):
    paint(tmp_path / "cat" / "a.png", 0)
    with pytest.raises(ValueError, match=said):
        make(tmp_path, **options)


def test_what_is_no_folder_of_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no such folder"):
        make(tmp_path / "nowhere")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / ".cache").mkdir()
    with pytest.raises(ValueError, match="there is no image in a folder named cat or dog"):
        make(tmp_path)


def test_a_file_that_is_no_image_or_has_deeper_pixels_is_named(tmp_path):
    paint(tmp_path / "cat" / "a.png", 0)
    whole = (tmp_path / "cat" / "a.png").read_bytes()
    (tmp_path / "cat" / "cut.png").write_bytes(whole[:45])
    with pytest.raises(ValueError, match=r"cut\.png: it cannot be read"):
        make(tmp_path)
    (tmp_path / "cat" / "cut.png").unlink()
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "cat" / "scan.png")
    with pytest.raises(ValueError, match=r"scan\.png: its pixels have more than 8 bits"):
        make(tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, []),
        ({"split-seed": 9, "test-share": 0.3}, []),
        ({"classes": "dog, cat"}, ["classes: labels dog, cat here, cat, dog agreed"]),
        ({"side": 16, "mean": 0.4}, ["images: side 16 here, 8 agreed; mean 0.4 here, 0.5 agreed"]),
        ({"channels": 1}, ["images: channels 1 here, 3 agreed"]),
    ],
)
def test_what_must_agree_is_described_and_what_need_not_is_not(options, said, tmp_path):
    paint(tmp_path / "cat" / "a.png", 0)
    assert differences(make(tmp_path, **options).description(), make(tmp_path).description()) == said


def test_light_and_dark_are_told_apart(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(24):
        for name, grey in (("cat", 60), ("dog", 190)):
            (tmp_path / name).mkdir(exist_ok=True)
            noise = (grey + rng.integers(-50, 50, (8, 8, 3))).astype(np.uint8)
            Image.fromarray(noise).save(tmp_path / name / f"{index}.png")
    task = make(tmp_path, **{"test-share": 0.25})
    model = task.build_model(0)
    train(model, task, task.load_train(), lr=0.05, epochs=8, batch_size=8, rng=rng)
    assert evaluate(model, task, task.load_test())["auc"] > 0.95
