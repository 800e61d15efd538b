"""The phantom: the same for everybody, with CheXpert's label rates and an honest difficulty."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privfin.data import phantom_labels
from privfin.data.phantom import LABELS, generate_phantom
from privfin.data.phantom_findings import PAINTERS, VISIBLE
from privfin.data.phantom_report import MENTIONED
from privfin.data.records import Dataset
from privfin.errors import UserInputError


@pytest.fixture(scope="module")
def phantom() -> Dataset:
    return generate_phantom(3000)


def label_matrix(dataset: Dataset) -> np.ndarray:
    return np.array([record.labels for record in dataset.records])


def image(record):
    return record.inputs["image"].astype(float)


def test_same_arguments_give_same_records() -> None:
    assert generate_phantom(150).fingerprint() == generate_phantom(150).fingerprint()
    assert generate_phantom(150).fingerprint() != generate_phantom(150, seed=1).fingerprint()


@settings(max_examples=8, deadline=None)
@given(fewer=st.integers(1, 140), more=st.integers(140, 300), seed=st.integers(0, 2**40))
def test_a_patient_does_not_depend_on_how_many_there_are(fewer, more, seed) -> None:
    small, large = generate_phantom(fewer, 16, seed), generate_phantom(more, 16, seed)
    assert len(small.patients()) == fewer
    assert small.fingerprint() == large.of_patients(small.patients()).fingerprint()


def test_the_size_of_images_changes_images_only() -> None:
    small, large = generate_phantom(60, 32), generate_phantom(60, 64)
    for a, b in zip(small.records, large.records, strict=True):
        assert (a.record_id, a.inputs["text"]) == (b.record_id, b.inputs["text"])
        assert np.array_equal(a.labels, b.labels)
        assert b.inputs["image"].shape == (64, 64)
        halved = image(b).reshape(32, 2, 32, 2).mean((1, 3))
        assert np.corrcoef(image(a).ravel(), halved.ravel())[0, 1] > 0.85


def test_records_have_the_promised_form(phantom) -> None:
    assert phantom.label_names == LABELS
    record = phantom.records[0]
    assert record.patient_id == "phantom-000000"
    assert record.record_id == "phantom-000000-1"
    for record in phantom.records:
        assert record.inputs["image"].dtype == np.uint8
        assert record.inputs["image"].shape == (32, 32)
        assert record.inputs["text"].strip()
        assert "{" not in record.inputs["text"]
        assert set(np.unique(record.labels)) <= {0.0, 1.0}


def test_some_patients_have_several_studies(phantom) -> None:
    counts = np.array([len(positions) for positions in phantom.patients().values()])
    assert counts.min() == 1
    assert counts.max() == 5
    assert 1.4 < counts.mean() < 1.7


def test_prevalence_follows_the_statistics(phantom) -> None:
    facts = phantom_labels.statistics()
    found = label_matrix(phantom).mean(axis=0)
    # 3,000 patients: four standard errors of a proportion.
    assert np.all(np.abs(found - facts.prevalence) < 4 * np.sqrt(facts.prevalence / 3000))


def test_joint_rates_follow_the_statistics(phantom) -> None:
    facts = phantom_labels.statistics()
    labels = label_matrix(phantom)
    found = labels.T @ labels / len(labels)
    pairs = np.triu_indices(14, 1)
    assert np.corrcoef(found[pairs], facts.joint[pairs])[0, 1] > 0.99
    # Beyond what independent labels of these prevalences would give.
    product = np.outer(facts.prevalence, facts.prevalence)[pairs]
    excess, wanted = found[pairs] - product, facts.joint[pairs] - product
    assert np.corrcoef(excess, wanted)[0, 1] > 0.85


def test_no_finding_excludes_every_pathology(phantom) -> None:
    labels = label_matrix(phantom)
    healthy = labels[:, 0] == 1
    assert healthy.any()
    assert not labels[healthy, 1:-1].any()
    assert labels[healthy, -1].any()


def test_studies_of_a_patient_are_alike(phantom) -> None:
    labels = label_matrix(phantom)
    pairs = [rows[:2] for rows in phantom.patients().values() if len(rows) > 1]
    first, second = (labels[[pair[k] for pair in pairs], 10] for k in (0, 1))
    assert np.corrcoef(first, second)[0, 1] > 0.2


def test_findings_show_where_they_belong(phantom) -> None:
    labels = label_matrix(phantom)
    pictures = np.array([record.inputs["image"] for record in phantom.records], dtype=float)
    pictures -= pictures.mean(axis=(1, 2), keepdims=True)

    def change(name: str, rows: slice, columns: slice) -> float:
        has = labels[:, LABELS.index(name)] == 1
        region = pictures[:, rows, columns].mean(axis=(1, 2))
        return float(region[has].mean() - region[~has].mean())

    assert change("Cardiomegaly", slice(18, 24), slice(18, 26)) > 2
    assert change("Pleural Effusion", slice(20, 23), slice(3, 9)) > 2
    assert change("Pneumothorax", slice(4, 9), slice(4, 12)) < -2
    assert change("Lung Lesion", slice(7, 14), slice(5, 12)) > 1


def test_reports_name_what_is_there(phantom) -> None:
    labels = label_matrix(phantom)
    texts = [record.inputs["text"].lower() for record in phantom.records]
    for name, stem in (("Pneumothorax", "apical pneumothorax"), ("Fracture", "rib fracture")):
        has = labels[:, LABELS.index(name)] == 1
        says = np.array([stem in text for text in texts])
        assert says[has].mean() > 5 * says[~has].mean()
        # Reports leave findings out, too.
        assert says[has].mean() < 0.9
    denies = np.array(["no pleural effusion" in text for text in texts])
    assert denies.any()
    assert denies[labels[:, 10] == 1].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patients": 0}, "at least 1 patient"),
        ({"patients": 5, "image_size": 8}, "image size"),
        ({"patients": 5, "image_size": 128}, "image size"),
        ({"patients": 5, "seed": -1}, "seed"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message) -> None:
    with pytest.raises(UserInputError, match=message):
        generate_phantom(**arguments)


def test_every_finding_can_be_drawn_and_told() -> None:
    assert set(PAINTERS) == set(VISIBLE) == set(MENTIONED) == set(LABELS[1:])


def test_shipped_statistics_are_consistent() -> None:
    facts = phantom_labels.statistics()
    assert np.allclose(np.diag(facts.joint), facts.prevalence)
    assert np.allclose(facts.joint, facts.joint.T)
    raw = json.loads(
        (Path(phantom_labels.__file__).parent / "chexpert_statistics.json").read_text()
    )
    assert "CheXpert" in raw["source"]


@given(first=st.floats(-2.5, 2.5), second=st.floats(-2.5, 2.5), correlation=st.floats(-0.9, 0.9))
@settings(max_examples=40, deadline=None)
def test_quadrant_probability_agrees_with_scipy(first, second, correlation) -> None:
    from scipy.stats import multivariate_normal

    # P(X > a, Y > b) = P(X < -a, Y < -b): the normal is symmetric.
    expected = multivariate_normal.cdf(
        [-first, -second], mean=[0, 0], cov=[[1, correlation], [correlation, 1]]
    )
    got = phantom_labels.both_positive(
        np.array([first]), np.array([second]), np.array([correlation])
    )
    assert got[0] == pytest.approx(expected, abs=1e-5)


def test_quadrant_probability_at_the_median() -> None:
    # Sheppard 1899: P(X > 0, Y > 0) = 1/4 + asin(r) / (2 pi).
    r = np.linspace(-0.95, 0.95, 11)
    zero = np.zeros_like(r)
    expected = 0.25 + np.arcsin(r) / (2 * np.pi)
    assert np.allclose(phantom_labels.both_positive(zero, zero, r), expected, atol=1e-6)


def test_label_noise_keeps_prevalence() -> None:
    rng = np.random.default_rng(0)
    prevalence = np.array([0.02, 0.5])
    truth = rng.random((200_000, 2)) < prevalence
    noisy = phantom_labels.add_label_noise(truth, prevalence, rng.random(truth.shape))
    assert np.allclose(noisy.mean(axis=0), prevalence, rtol=0.05)
    assert np.allclose((truth & ~noisy).sum(0) / truth.sum(0), 0.03, atol=0.008)


def image_features(dataset: Dataset) -> np.ndarray:
    """First-order wavelet modulus pooled to 4x4, and pixels pooled to 8x8."""
    pixels = np.array([record.inputs["image"] for record in dataset.records], dtype=np.float32)
    pixels -= pixels.mean(axis=(1, 2), keepdims=True)
    pixels /= pixels.std(axis=(1, 2), keepdims=True) + 1e-3
    n, size, _ = pixels.shape

    def pool(picture: np.ndarray, grid: int) -> np.ndarray:
        step = size // grid
        return picture.reshape(n, grid, step, grid, step).mean((2, 4)).reshape(n, -1)

    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None]
    spectrum = np.fft.fft2(pixels)
    parts = [pool(pixels, 8)]
    for scale in range(3):
        centre = 0.35 / 2**scale
        for angle in np.pi * np.arange(6) / 6:
            along = fx * np.cos(angle) + fy * np.sin(angle) - centre
            across = fy * np.cos(angle) - fx * np.sin(angle)
            window = np.exp(-(along**2 + across**2) / (2 * (centre / 2.2) ** 2))
            parts.append(pool(np.abs(np.fft.ifft2(spectrum * window)), 4))
    return np.hstack(parts).astype(np.float32)


@pytest.mark.slow
def test_difficulty_is_as_intended() -> None:
    import torch
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.metrics import roc_auc_score

    dataset = generate_phantom(6000)
    labels = label_matrix(dataset)
    patients = list(dataset.patients())
    training = set(patients[:4500])
    train = np.array([record.patient_id in training for record in dataset.records])
    vectorizer = HashingVectorizer(n_features=1024, ngram_range=(1, 2))
    text = vectorizer.transform([r.inputs["text"] for r in dataset.records]).toarray()
    image = image_features(dataset)
    image = (image - image[train].mean(0)) / image[train].std(0)
    image /= np.linalg.norm(image, axis=1, keepdims=True)

    def auroc(features: np.ndarray, inverse_penalty: float) -> float:
        x = torch.tensor(features[train], dtype=torch.float32)
        y = torch.tensor(labels[train], dtype=torch.float32)
        weight = torch.zeros(x.shape[1], 14, requires_grad=True)
        bias = torch.zeros(14, requires_grad=True)
        solver = torch.optim.LBFGS([weight, bias], max_iter=60, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            solver.zero_grad()
            fit = torch.nn.functional.binary_cross_entropy_with_logits(
                x @ weight + bias, y, reduction="sum"
            )
            value = (fit + weight.square().sum() / (2 * inverse_penalty)) / len(x)
            value.backward()
            return value

        solver.step(loss)
        scores = features[~train] @ weight.detach().numpy()
        return float(roc_auc_score(labels[~train], scores, average="macro"))

    only_image, only_text = auroc(image, 3.0), auroc(text, 10.0)
    both = auroc(np.hstack([image, text]), 10.0)
    assert 0.82 < both < 0.93
    assert both - max(only_image, only_text) > 0.03
    assert 0.70 < only_image < 0.85
    assert only_text > 0.70
