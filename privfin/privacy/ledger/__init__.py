"""The privacy ledger of a data holder: what its patients were charged, and what may still be."""

from privfin.privacy.ledger.chain import LedgerHead
from privfin.privacy.ledger.datasets import DatasetKey, dataset_keys
from privfin.privacy.ledger.ledger import Binding, DataSet, Ledger
from privfin.privacy.ledger.places import anchors_folder, ledger_home
from privfin.privacy.ledger.recover import Recovery, recover_ledger
from privfin.privacy.ledger.state import Reservation
from privfin.privacy.ledger.status import DatasetStatus, PopulationStatus, RunSpend
from privfin.privacy.ledger.verify import Finding, verify_ledger

__all__ = [
    "Binding",
    "DataSet",
    "DatasetKey",
    "DatasetStatus",
    "Finding",
    "Ledger",
    "LedgerHead",
    "PopulationStatus",
    "Recovery",
    "Reservation",
    "RunSpend",
    "anchors_folder",
    "dataset_keys",
    "ledger_home",
    "recover_ledger",
    "verify_ledger",
]
