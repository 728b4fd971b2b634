"""The arms and readouts of every study: what each is called in a legend, its colour, its marker and its line."""

from __future__ import annotations

from typing import NamedTuple, NoReturn

from imbal_core._checks.names import unknown_name


class Arm(NamedTuple):
    """How an arm is drawn, the same everywhere in the book: what it is in a few words, the rest in matplotlib's."""

    says: str
    color: str
    marker: str
    line: str


class _Marks(dict[str, Arm]):
    """Arms by name; a name that has none is an error which says where it gets one."""

    def __missing__(self, name: str) -> NoReturn:
        error = unknown_name("arm", name, self)
        raise ValueError(
            f"{error} A new arm gets its name, colour, marker and line in imbal_book/pictures/arms.py."
        )


#: Name to arm. The colours are those of Okabe and Ito and of Tol: a remedy keeps its own, arms of a kind share one.
METHODS = _Marks(
    {
        "D": Arm("softmax layer", "#4d4d4d", "o", "-"),
        "C": Arm("centers, last convolution", "#0072B2", "s", "-"),
        "F": Arm("centers, fully connected", "#009E73", "^", "-"),
        "OD": Arm("over-sampling, softmax layer", "#4d4d4d", "o", ":"),
        "OC": Arm("over-sampling, centers, last convolution", "#0072B2", "s", ":"),
        "OF": Arm("over-sampling, centers, fully connected", "#009E73", "^", ":"),
        "LA": Arm("softmax layer, logits adjusted", "#D55E00", "D", "--"),
        "CE": Arm("cross entropy", "#4d4d4d", "o", "-"),
        "CCE (paper)": Arm("levels the wrong classes", "#AA4499", "s", "-"),
        "CCE (released)": Arm("sharpens the wrong classes", "#E69F00", "^", "-"),
        "COT": Arm("two updates per batch", "#56B4E9", "v", "-"),
        "CE balanced": Arm("as many images, spread evenly", "#CC6677", "s", "--"),
        "CE imbalanced": Arm("few images of rare classes", "#4d4d4d", "o", "-"),
        "ASL": Arm("easy wrong classes count less", "#7A5C1E", "*", "--"),
        "all test images": Arm("recognised or not", "#4d4d4d", "o", "-"),
        "true positives": Arm("recognised", "#009E73", "^", "--"),
        "false negatives": Arm("missed", "#D55E00", "v", ":"),
        "Focal": Arm("hard images count more", "#7A5C1E", "P", ":"),
        "Class-balanced": Arm("rare classes count more", "#7A5C1E", "X", "-."),
        "LDAM-DRW": Arm("margins, late weights", "#7A5C1E", "p", "-"),
        "Balanced softmax": Arm("class counts in the loss", "#D55E00", "h", "-"),
        "Logit adjustment": Arm("class shares in the loss", "#D55E00", "d", "-."),
        "CE, logit adjusted": Arm("after training", "#D55E00", "D", "--"),
        "CE, tau-normalised": Arm("after training", "#332288", "<", ":"),
        "CE, classifier re-trained": Arm("after training", "#332288", ">", "--"),
        "CE, category centers": Arm("after training", "#009E73", "^", "-"),
        "plain": Arm("cross entropy", "#4d4d4d", "o", "-"),
        "final BN": Arm("batch norm on the logits", "#882255", "s", "-"),
        "weighted loss": Arm("rare class counts more", "#7A5C1E", "^", "--"),
        "final BN + weighted loss": Arm("both", "#882255", "P", "--"),
        "final BN, removed at inference": Arm("trained with the layer", "#882255", "v", ":"),
        "final BN, no affine": Arm("without scale and shift", "#882255", "<", "-."),
        "final BN, momentum 0.1": Arm("faster running statistics", "#882255", ">", "-."),
        "plain, logit adjusted": Arm("after training", "#D55E00", "D", "--"),
        "plain, threshold moved": Arm("after training", "#D55E00", "X", ":"),
        "plain, balanced threshold": Arm("after training", "#D55E00", "*", "-."),
        "logit adjustment": Arm("class shares in the loss", "#D55E00", "d", "-."),
        "plain, temperature": Arm("after training", "#999933", "p", "--"),
        "label smoothing": Arm("soft targets", "#999933", "h", "-"),
        "class weights": Arm("rare classes count more", "#7A5C1E", "^", "-"),
        "LDAM": Arm("margins", "#7A5C1E", "p", "--"),
        "weight balancing": Arm("class weights, short weight vectors", "#7A5C1E", "d", "-"),
        "cosine classifier": Arm("weight vectors of one length", "#332288", "o", "-"),
        "tuned weight decay": Arm("short weight vectors", "#332288", "s", "-"),
        "plain, tau-normalised": Arm("after training", "#332288", "<", ":"),
        "category centers": Arm("after training", "#009E73", "^", "-"),
        "class weights, logit adjusted": Arm("both", "#D55E00", "^", "-"),
        "CCE (paper), logit adjusted": Arm("both", "#D55E00", "s", "-"),
        "Focal, logit adjusted": Arm("both", "#D55E00", "P", "-"),
        "final BN, logit adjusted": Arm("both", "#882255", "D", "--"),
        "scikit-learn, balanced": Arm("logistic regression, class weights", "#44AA99", "s", "-"),
        "SMOTE": Arm("interpolated images, logistic regression", "#44AA99", "^", "-"),
        "balanced forest": Arm("trees on balanced samples", "#44AA99", "v", "-"),
    }
)
#: A remedy that has no arm here, such as one that only others published.
OTHER = Arm("", "#1a1a1a", "o", "-")


def legend_name(method: str) -> str:
    """Return what a legend calls a method: its name and what it is."""
    return f"{method}: {METHODS[method].says}" if method in METHODS else method
