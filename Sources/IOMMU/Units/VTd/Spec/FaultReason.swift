// Intel Virtualization Technology for Directed I/O, Architecture Specification, revision 5.0.
// All files of this folder cite that revision.

/// VT-d §7.1 Hardware Handling of Faulting DMA Requests: the fault reason codes of scalable mode that
/// requests can meet here.
package struct VTdFaultReason: RawRepresentable, Hashable, Sendable {
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
  /// SCT.6: a request with PASID, PASIDE clear.
  package static let pasidDisabled = VTdFaultReason(0x45)
  /// SCT.7: the PASID is beyond the directory.
  package static let pasidTooLarge = VTdFaultReason(0x46)
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
  /// SSS.1
  package static let secondStageInaccessible = VTdFaultReason(0x78)
  /// SSS.3
  package static let secondStageReserved = VTdFaultReason(0x7a)
  /// SSS.4: the table pointer of the PASID entry leads nowhere.
  package static let secondStagePointerInvalid = VTdFaultReason(0x7b)
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
}
