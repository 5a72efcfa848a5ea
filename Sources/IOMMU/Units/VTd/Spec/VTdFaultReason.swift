// Intel Virtualization Technology for Directed I/O, Architecture Specification, revision 5.0.
// All files of this folder cite that revision.

/// VT-d §7.1 Hardware Handling of Faulting DMA Requests: the fault reason codes of scalable mode that
/// requests can meet here.
package struct VTdFaultReason: RawRepresentable, Hashable, Error {
  package let rawValue: UInt8
  package init(rawValue: UInt8) { self.rawValue = rawValue }

  private init(_ rawValue: UInt8) { self.rawValue = rawValue }

  /// RTA.1: the root table address register does not select scalable mode.
  package static let invalidRootTable = VTdFaultReason(0x30)
  /// SRT.1
  package static let rootEntryInaccessible = VTdFaultReason(0x38)
  /// SRT.2
  package static let rootEntryAbsent = VTdFaultReason(0x39)
  /// SRT.3
  package static let rootEntryReserved = VTdFaultReason(0x3a)
  /// SCT.1
  package static let contextEntryInaccessible = VTdFaultReason(0x40)
  /// SCT.2
  package static let contextEntryAbsent = VTdFaultReason(0x41)
  /// SCT.3
  package static let contextEntryReserved = VTdFaultReason(0x42)
  /// SCT.5: a translation request or a translated one, DTE clear.
  package static let deviceTLBDisabled = VTdFaultReason(0x44)
  /// SCT.6: a request with PASID, PASIDE clear.
  package static let pasidDisabled = VTdFaultReason(0x45)
  /// SCT.7: the PASID is beyond the directory.
  package static let pasidTooLarge = VTdFaultReason(0x46)
  /// SCT.8: a page request, PRE clear.
  package static let pageRequestsDisabled = VTdFaultReason(0x47)
  /// SCT.9: RID_PASID is beyond the directory.
  package static let ridPasidInvalid = VTdFaultReason(0x48)
  /// SPD.1
  package static let pasidDirectoryInaccessible = VTdFaultReason(0x50)
  /// SPD.2
  package static let pasidDirectoryAbsent = VTdFaultReason(0x51)
  /// SPD.3
  package static let pasidDirectoryReserved = VTdFaultReason(0x52)
  /// SPT.1
  package static let pasidEntryInaccessible = VTdFaultReason(0x58)
  /// SPT.2
  package static let pasidEntryAbsent = VTdFaultReason(0x59)
  /// SPT.3
  package static let pasidEntryReserved = VTdFaultReason(0x5a)
  /// SPT.4: a translation type or width that the unit does not have.
  package static let pasidEntryInvalid = VTdFaultReason(0x5b)
  /// SPT.5: a request to execute, which no PASID table entry allows.
  package static let executeRequestDisabled = VTdFaultReason(0x5c)
  /// SPT.6: a privileged request, SRE clear.
  package static let privilegedRequestDisabled = VTdFaultReason(0x5d)
  /// SFS.1
  package static let firstStageInaccessible = VTdFaultReason(0x70)
  /// SFS.2
  package static let firstStageAbsent = VTdFaultReason(0x71)
  /// SFS.3
  package static let firstStageReserved = VTdFaultReason(0x72)
  /// SFS.4: the first-stage pointer of the PASID entry leads nowhere.
  package static let firstStagePointerInvalid = VTdFaultReason(0x73)
  /// SFS.5: nested, and a first-stage entry is beyond what the second stage translates.
  package static let firstStageEntryBeyond = VTdFaultReason(0x74)
  /// SFS.6: nested, and the second stage does not let the top first-stage table be read.
  package static let firstStagePointerDenied = VTdFaultReason(0x75)
  /// SFS.7: the same for a lower table.
  package static let firstStageEntryDenied = VTdFaultReason(0x76)
  /// SFS.8: nested, and the second stage does not let flags of a first-stage entry be stored.
  package static let firstStageFlagsDenied = VTdFaultReason(0x77)
  /// SSS.1
  package static let secondStageInaccessible = VTdFaultReason(0x78)
  /// SSS.3
  package static let secondStageReserved = VTdFaultReason(0x7a)
  /// SSS.4: the table pointer of the PASID entry leads nowhere.
  package static let secondStagePointerInvalid = VTdFaultReason(0x7b)
  /// SGN.1
  package static let notCanonical = VTdFaultReason(0x80)
  /// SGN.2: a request without privilege, to a page that is for privilege only.
  package static let privilegeDenied = VTdFaultReason(0x81)
  /// SGN.3
  package static let executeDenied = VTdFaultReason(0x82)
  /// SGN.4: pass-through, and the address is beyond the host address width.
  package static let beyondHostAddressWidth = VTdFaultReason(0x83)
  /// SGN.5: the address is beyond the width of the second-stage table.
  package static let beyondSecondStage = VTdFaultReason(0x84)
  /// SGN.6
  package static let writeDenied = VTdFaultReason(0x85)
  /// SGN.7
  package static let readDenied = VTdFaultReason(0x86)
  /// SGN.8: the output is in the interrupt address range.
  package static let outputInInterruptRange = VTdFaultReason(0x87)
  /// SFS.10: flags of a first-stage entry could not be stored.
  package static let firstStageFlagsFailed = VTdFaultReason(0x91)

  /// VT-d §7.1: a fault found while the unit could not read the entry with the FPD bit is
  /// *non-qualified*: it is recorded whatever that bit says.
  var isQualified: Bool {
    switch self {
    case .invalidRootTable, .rootEntryInaccessible, .rootEntryAbsent, .rootEntryReserved,
      .contextEntryInaccessible, .pasidDirectoryInaccessible, .pasidEntryInaccessible:
      false
    default:
      true
    }
  }

  /// VT-d §7.1: whether a translation request that meets this is answered with "nothing is allowed", and
  /// nothing is recorded, because the device may ask for the page. Everything else is an error of
  /// software or hardware.
  var isRecoverable: Bool {
    switch self {
    case .firstStageAbsent, .firstStageEntryBeyond, .firstStagePointerDenied,
      .firstStageEntryDenied, .firstStageFlagsDenied, .notCanonical, .privilegeDenied,
      .executeDenied, .beyondHostAddressWidth, .beyondSecondStage, .writeDenied, .readDenied,
      .outputInInterruptRange:
      true
    default:
      false
    }
  }
}
