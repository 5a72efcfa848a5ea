// SPDX-License-Identifier: Apache-2.0

// The configuration space of a described function. The specification requires of an endpoint which
// bits are writable. SERR# Enable, Cache Line Size and Interrupt Line are writable too, because
// software expects these bits of every function to be writable.

extension FunctionDescription {
  /// Returns configuration space as it is after power-on.
  package func configSpace() -> ConfigSpace {
    var space = ConfigSpace(size: isExpress ? ConfigSize.extended : ConfigSize.conventional)
    defineHeader(in: &space)
    for bar in bars { bar.define(in: &space) }
    defineCapabilityList(in: &space)
    if isExpress { defineExtendedList(in: &space) }
    return space
  }

  private func defineHeader(in space: inout ConfigSpace) {
    let command: CommandRegister = [
      .ioSpace, .memorySpace, .busMaster, .systemError, .interruptDisable,
    ]
    let status: StatusRegister = capabilities.isEmpty ? [] : .capabilitiesList
    space.define(Type0Header.vendorID, vendorID)
    space.define(Type0Header.deviceID, deviceID)
    space.define(Type0Header.command, UInt16(0), writable: command.rawValue)
    space.define(Type0Header.status, status.rawValue, clearedByOne: StatusRegister.errors.rawValue)
    space.define(Type0Header.revisionID, classCode << 8 | UInt32(revision))
    space.define(Type0Header.cacheLineSize, UInt8(0), writable: 0xff)
    space.define(Type0Header.headerType, UInt8(isMultiFunction ? 0x80 : 0))
    space.define(Type0Header.subsystemVendorID, subsystemVendorID)
    space.define(Type0Header.subsystemID, subsystemID)
    space.define(Type0Header.interruptLine, UInt8(0), writable: 0xff)
    space.define(Type0Header.interruptPin, interruptPin)
  }

  private func defineCapabilityList(in space: inout ConfigSpace) {
    // The two lowest bits of the pointer are reserved (§7.5.1.1.11).
    space.define(Type0Header.capabilitiesPointer, UInt8((capabilities.first?.offset ?? 0) & 0xfc))
    for (index, placed) in capabilities.enumerated() {
      let next = index + 1 < capabilities.count ? capabilities[index + 1].offset : 0
      space.define(placed.offset, placed.kind.id)
      space.define(placed.offset + 1, UInt8(next & 0xfc))
      placed.kind.define(at: placed.offset, in: &space)
    }
  }

  private func defineExtendedList(in space: inout ConfigSpace) {
    for (index, placed) in extendedCapabilities.enumerated() {
      let next =
        index + 1 < extendedCapabilities.count ? extendedCapabilities[index + 1].offset : 0
      let header = UInt32(placed.kind.id) | 1 << 16 | UInt32(next & 0xffc) << 20
      space.define(placed.offset, header)
      placed.kind.define(at: placed.offset, in: &space)
    }
  }
}

extension BAR {
  /// Defines the register. Address bits below the size are read-only, so software that writes ones
  /// reads the size (§7.5.1.2.1).
  fileprivate func define(in space: inout ConfigSpace) {
    let register = Type0Header.bar0 + index * 4
    let mask = ~(size - 1)
    space.define(
      register, UInt32(truncatingIfNeeded: address & mask) | typeBits,
      writable: UInt32(truncatingIfNeeded: mask) & ~0xf)
    guard is64Bit else { return }
    space.define(
      register + 4, UInt32(truncatingIfNeeded: address >> 32),
      writable: UInt32(truncatingIfNeeded: mask >> 32))
  }
}

extension Capability {
  fileprivate func define(at offset: Int, in space: inout ConfigSpace) {
    switch self {
    case .powerManagement(let noSoftReset):
      space.define(offset + PowerManagement.capabilities, UInt16(3))  // version 3, D0 and D3 only
      space.define(
        offset + PowerManagement.control, noSoftReset ? PowerManagement.noSoftReset : 0,
        writable: PowerManagement.powerStateMask)

    case .express(let functionLevelReset, let rootComplexIntegrated):
      defineExpress(at: offset, in: &space, functionLevelReset, rootComplexIntegrated)

    case .msi(let vectors, let is64Bit, let perVectorMasking):
      defineMSI(at: offset, in: &space, vectors, is64Bit, perVectorMasking)

    case .msix(let vectors, let bar, let table, let pendingBits):
      space.define(
        offset + MSIX.control, UInt16(truncatingIfNeeded: vectors - 1) & MSIX.tableSizeMask,
        writable: MSIX.enable | MSIX.functionMask)
      space.define(offset + MSIX.table, table & ~7 | UInt32(bar))
      space.define(offset + MSIX.pendingBits, pendingBits & ~7 | UInt32(bar))
    }
  }

  private func defineExpress(
    at offset: Int, in space: inout ConfigSpace, _ functionLevelReset: Bool,
    _ rootComplexIntegrated: Bool
  ) {
    let endpointType: UInt16 = rootComplexIntegrated ? 0x9 : 0x0
    space.define(offset + Express.flags, 2 | endpointType << 4)
    // Bit 15: role-based error reporting, required of every function since version 1.1.
    let reset: UInt32 = functionLevelReset ? Express.functionLevelReset : 0
    space.define(offset + Express.deviceCapabilities, 1 << 15 | reset)
    // Writable: error reporting, relaxed ordering, payload size, tags, no snoop, read request size.
    // After a reset relaxed ordering and no snoop are enabled and read requests are limited to 512
    // bytes.
    space.define(offset + Express.deviceControl, UInt16(0x2810), writable: 0x7bff & ~0x0600)
    space.define(offset + Express.deviceStatus, UInt16(0), clearedByOne: 0x000f)
    if !rootComplexIntegrated {
      space.define(offset + 0x0c, UInt32(0x0000_0011))  // one lane at 2.5 GT/s
      space.define(offset + 0x10, UInt16(0), writable: 0x01eb)
      space.define(offset + 0x12, UInt16(0x0011))
    }
    space.define(offset + 0x24, UInt32(1 << 5 | 1 << 4))  // end-end TLP prefixes, which PASIDs need
    space.define(offset + Express.deviceControl2, UInt16(0), writable: 0x0400)
  }

  private func defineMSI(
    at offset: Int, in space: inout ConfigSpace, _ vectors: Int, _ is64Bit: Bool,
    _ perVectorMasking: Bool
  ) {
    let capable = UInt16(truncatingIfNeeded: vectors.trailingZeroBitCount) << 1
    let width = is64Bit ? MSI.is64Bit : 0
    let masking = perVectorMasking ? MSI.perVectorMasking : 0
    space.define(
      offset + MSI.control, capable | width | masking,
      writable: MSI.enable | MSI.multipleEnableMask)
    space.define(offset + MSI.address, UInt32(0), writable: ~3)
    if is64Bit { space.define(offset + MSI.address + 4, UInt32(0), writable: ~0) }
    let data = offset + (is64Bit ? 0xc : 0x8)
    space.define(data, UInt16(0), writable: 0xffff)
    if perVectorMasking {
      let vectorMask = vectors >= 32 ? UInt32.max : (1 << vectors) - 1
      space.define(data + 4, UInt32(0), writable: vectorMask)
    }
  }
}

extension ExtendedCapability {
  package var id: UInt16 {
    switch self {
    case .ats: ExtendedCapabilityID.ats
    case .pageRequest: ExtendedCapabilityID.pageRequest
    case .pasid: ExtendedCapabilityID.pasid
    }
  }

  fileprivate func define(at offset: Int, in space: inout ConfigSpace) {
    switch self {
    case .ats(let queueDepth):
      // The field's value 0 means a depth of 32. Bit 5: the untranslated address is page aligned
      // (§10.5.1.2).
      space.define(offset + 4, UInt16(queueDepth & 0x1f) | 1 << 5)
      space.define(offset + 6, UInt16(0), writable: 0x801f)
    case .pageRequest(let capacity):
      space.define(
        offset + PageRequestInterface.control, UInt16(0), writable: PageRequestInterface.enable)
      space.define(
        offset + PageRequestInterface.status,
        PageRequestInterface.stopped | PageRequestInterface.responseHasPASID,
        clearedByOne: 0x0003)
      space.define(offset + 8, capacity)
      space.define(offset + 12, UInt32(0), writable: ~0)
    case .pasid(let width, let permissions):
      space.define(
        offset + PASIDCapability.capabilities, UInt16(width & 0x1f) << 8 | permissions)
      space.define(
        offset + PASIDCapability.control, UInt16(0),
        writable: PASIDCapability.enable | permissions)
    }
  }
}
