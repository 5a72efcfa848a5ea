// SPDX-License-Identifier: Apache-2.0

// Intel Virtualization Technology for Directed I/O, Architecture Specification, revision 5.0.
// All files of this folder cite that revision.

/// VT-d §7.1 Hardware Handling of Faulting DMA Requests: the fault reason codes of scalable mode
/// that can occur in these units.
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
  /// SCT.5: a translation request or a translated request, and DTE is clear.
  package static let deviceTLBDisabled = VTdFaultReason(0x44)
  /// SCT.6: a request with PASID, and PASIDE is clear.
  package static let pasidDisabled = VTdFaultReason(0x45)
  /// SCT.7: the PASID is beyond the directory.
  package static let pasidTooLarge = VTdFaultReason(0x46)
  /// SCT.8: a page request, and PRE is clear.
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
  /// SPT.4: a translation type or address width that the unit does not support.
  package static let pasidEntryInvalid = VTdFaultReason(0x5b)
  /// SPT.5: a request to execute, which no PASID table entry allows here.
  package static let executeRequestDisabled = VTdFaultReason(0x5c)
  /// SPT.6: a privileged request, and SRE is clear.
  package static let privilegedRequestDisabled = VTdFaultReason(0x5d)
  /// SFS.1
  package static let firstStageInaccessible = VTdFaultReason(0x70)
  /// SFS.2
  package static let firstStageAbsent = VTdFaultReason(0x71)
  /// SFS.3
  package static let firstStageReserved = VTdFaultReason(0x72)
  /// SFS.4: there is no memory at the first-stage pointer of the PASID table entry.
  package static let firstStagePointerInvalid = VTdFaultReason(0x73)
  /// SFS.5: nested, and a first-stage entry is at an address beyond the width of the second stage.
  package static let firstStageEntryBeyond = VTdFaultReason(0x74)
  /// SFS.6: nested, and the second stage does not allow reading the top first-stage table.
  package static let firstStagePointerDenied = VTdFaultReason(0x75)
  /// SFS.7: nested, and the second stage does not allow reading a lower first-stage table.
  package static let firstStageEntryDenied = VTdFaultReason(0x76)
  /// SFS.8: nested, and the second stage does not allow updating the flags of a first-stage entry.
  package static let firstStageFlagsDenied = VTdFaultReason(0x77)
  /// SSS.1
  package static let secondStageInaccessible = VTdFaultReason(0x78)
  /// SSS.3
  package static let secondStageReserved = VTdFaultReason(0x7a)
  /// SSS.4: there is no memory at the second-stage pointer of the PASID table entry.
  package static let secondStagePointerInvalid = VTdFaultReason(0x7b)
  /// SGN.1
  package static let notCanonical = VTdFaultReason(0x80)
  /// SGN.2: an unprivileged request to a page that allows privileged requests only.
  package static let privilegeDenied = VTdFaultReason(0x81)
  /// SGN.3
  package static let executeDenied = VTdFaultReason(0x82)
  /// SGN.4: pass-through, and the address is beyond the host address width (HAW).
  package static let beyondHostAddressWidth = VTdFaultReason(0x83)
  /// SGN.5: the address is beyond the width of the second-stage tables.
  package static let beyondSecondStage = VTdFaultReason(0x84)
  /// SGN.6
  package static let writeDenied = VTdFaultReason(0x85)
  /// SGN.7
  package static let readDenied = VTdFaultReason(0x86)
  /// SGN.8: the output is in the interrupt address range.
  package static let outputInInterruptRange = VTdFaultReason(0x87)
  /// SFS.10: the flags of a first-stage entry could not be updated.
  package static let firstStageFlagsFailed = VTdFaultReason(0x91)

  /// Whether FPD suppresses recording of the fault. VT-d §7.1: a fault that occurs before the unit
  /// has read the entry with the FPD bit is *non-qualified* and is always recorded.
  var isQualified: Bool {
    switch self {
    case .invalidRootTable, .rootEntryInaccessible, .rootEntryAbsent, .rootEntryReserved,
      .contextEntryInaccessible, .pasidDirectoryInaccessible, .pasidEntryInaccessible:
      false
    default:
      true
    }
  }

  /// Whether a translation request with this fault is completed without permissions and without a
  /// record, because the device can send a page request for the page (VT-d §7.1). All other faults
  /// are errors of software or hardware.
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
