"""The SPF paper's network, its rivals, and their training and evaluation."""

from spf_net.config import RunConfig, parse_config
from spf_net.evaluation import Evaluation, evaluate, evaluate_by_source
from spf_net.extractor import ExtractorConfig
from spf_net.heads import HEADS, HeadConfig, build_head
from spf_net.launch import start_fabric
from spf_net.network import SPFNetwork, build_network
from spf_net.training import TrainingResult, train

__all__ = [
    "HEADS",
    "Evaluation",
    "ExtractorConfig",
    "HeadConfig",
    "RunConfig",
    "SPFNetwork",
    "TrainingResult",
    "build_head",
    "build_network",
    "evaluate",
    "evaluate_by_source",
    "parse_config",
    "start_fabric",
    "train",
]
