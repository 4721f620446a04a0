"""What MLflow keeps of a training of the purchase model, and how a kept model is read again.

Not here: the store itself (``learning/tracking.py``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from promo_assets.learning import evaluation
from promo_assets.learning.tracking import MODEL_FOLDER, Record, Registry, Tracking
from promo_assets.propensity.attention import Attention
from promo_assets.propensity.model import PropensityModel
from promo_assets.propensity.reasons import topic_of
from promo_assets.propensity.training import TrainingResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PROPENSITY = Registry(
    "propensity", "promo_propensity", "Probability of a purchase within the horizon."
)
TOP_FEATURES = 15
WEIGHT = "mean_absolute_shap"
FIGURES_OF = "model/tested; the registered model is the same refitted on all parts, test included"


def record_of(result: TrainingResult) -> Record:
    """Parameters, metrics, plots and the model itself."""
    cut_off = str(result.settings.cut_off)
    return Record(
        f"{cut_off} propensity",
        _params(result),
        {**result.metrics, **{name: float(count) for name, count in result.confusion.items()}},
        partial(_write, result),
        result.model.sha256,
        {"cut_off": cut_off, "figures_of": FIGURES_OF},
    )


def load_model(tracking: Tracking, version: int, sha256: str) -> PropensityModel:
    """The registered model of a version, if its files have the recorded SHA-256.

    Raises `ModelFileError` when the version is unknown or its files differ.
    """
    with tracking.model_files(version) as folder:
        return PropensityModel.load(folder, sha256)


def _params(result: TrainingResult) -> dict[str, Any]:
    settings = result.settings
    values: dict[str, Any] = {f"lightgbm.{name}": v for name, v in settings.lightgbm.items()}
    values |= {
        "cut_off": settings.cut_off,
        "horizon_days": settings.horizon,
        "seed": settings.seed,
        "features": len(result.model.features),
        "figures_of": FIGURES_OF,
        "fitted_until": result.model.fitted_until,
    }
    for part, told in result.split.items():
        values |= {f"{part}.{name}": value for name, value in told.items()}
    return values


def _write(result: TrainingResult, folder: Path) -> None:
    result.model.save(folder / MODEL_FOLDER)
    (folder / "confusion.json").write_text(json.dumps(dict(result.confusion), indent=1))
    _write_plots(result, folder / "plots")
    _write_attention(result.attention, folder)


def _write_attention(told: Attention, folder: Path) -> None:
    """Importance and partial dependence as tables, which MLflow shows, and as pictures."""
    tables = folder / "attention"
    tables.mkdir()
    features = [(name, topic_of(name), weight) for name, weight in told.features.items()]
    dependence = [
        (name, value, score)
        for name, (values, scores) in told.dependence.items()
        for value, score in zip(values.tolist(), scores.tolist(), strict=True)
    ]
    for name, rows, columns in (
        ("features", features, ["feature", "topic", WEIGHT]),
        ("topics", [*told.topics.items()], ["topic", WEIGHT]),
        ("dependence", dependence, ["feature", "value", "mean_score"]),
    ):
        pl.DataFrame(rows, schema=columns, orient="row").write_csv(tables / f"{name}.csv")
    _draw_attention(told, folder / "plots")


def _draw_attention(told: Attention, folder: Path) -> None:
    top = list(told.features.items())[:TOP_FEATURES][::-1]
    with _axes(folder / "importance.png", (5, 4)) as axes:
        axes.barh([name for name, _ in top], [value for _, value in top])
        axes.set(title="Importance: mean |SHAP value| (log-odds)")
    with _axes(folder / "dependence.png", (5, 4)) as axes:
        for name, (values, scores) in told.dependence.items():
            label = f"{name}, {values[0]:.4g} to {values[-1]:.4g}"
            axes.plot(np.linspace(0, 1, len(values)), scores, marker="o", ms=3, label=label)
        axes.set(title="Partial dependence", ylabel="mean score", xlabel="value, lowest to highest")
        axes.set(xticks=[])
        if told.dependence:
            axes.legend(fontsize=7)


def _write_plots(result: TrainingResult, folder: Path) -> None:
    """ROC, precision-recall, calibration and gain, each as a small PNG."""
    folder.mkdir()
    y, p = result.test_labels, result.test_scores
    scores, shares, _ = evaluation.calibration_curve(y, p)
    fpr, tpr = evaluation.roc_curve(y, p)
    recall, precision = evaluation.precision_recall_curve(y, p)
    users, buyers = evaluation.gain_curve(y, p)
    auc = result.metrics["auc"]
    lines = {
        "roc": (fpr, tpr, "false positive rate", "true positive rate", f"AUC {auc:.4f}", True),
        "precision_recall": (recall, precision, "recall", "precision", "Precision-recall", False),
        "calibration": (scores, shares, "mean score", "share of buyers", "Calibration", True),
        "gain": (users, buyers, "share of users", "share of buyers reached", "Gain", True),
    }
    for name, (x, values, x_label, y_label, title, diagonal) in lines.items():
        with _axes(folder / f"{name}.png", (4, 3.2)) as axes:
            axes.plot(_thin(x), _thin(values), marker="o" if name == "calibration" else None, ms=4)
            if diagonal:
                axes.plot([0, 1], [0, 1], lw=0.8, ls="--", color="grey")
            axes.set(xlabel=x_label, ylabel=y_label, title=title)


@contextmanager
def _axes(path: Path, size: tuple[float, float]) -> Iterator[Axes]:
    """A picture (inches) to draw in, written once it is drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=90, layout="constrained")
    yield figure.add_subplot()
    FigureCanvasAgg(figure).print_png(str(path))


def _thin(values: np.ndarray, points: int = 400) -> np.ndarray:
    """At most ``points`` of a curve's points, ends included."""
    if len(values) <= points:
        return values
    return values[np.linspace(0, len(values) - 1, points).astype(int)]
