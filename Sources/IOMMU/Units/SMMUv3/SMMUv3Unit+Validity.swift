// SPDX-License-Identifier: Apache-2.0

// The rules by which a stream table entry (§5.2.2) or a context descriptor (§5.4.2) is ILLEGAL, and
// the translation tables that legal ones describe.

extension SMMUv3Unit {
  // MARK: Stream table entries

  /// Returns whether a stream table entry is ILLEGAL (§5.2.2 SteIllegal()).
  func isIllegal(_ entry: StreamTableEntry) -> Bool {
    guard entry.isValid else { return true }
    if entry.configuration == .abort { return false }
    if entry.hasStage1, !capabilities.stage1 || hasIllegalStage1(entry) { return true }
    if entry.hasStage2, !capabilities.stage2 || hasIllegalStage2(entry) { return true }
    return hasIllegalATS(entry)
  }

  private func hasIllegalATS(_ entry: StreamTableEntry) -> Bool {
    guard capabilities.ats, entry.configuration != .bypass else { return false }
    // The unit does not support split-stage ATS (NS1ATS), nor full ATS with stalls.
    return entry.ats == 2 || entry.ats == 1 && entry.hasStage2 && entry.stallsFaults
  }

  private func hasIllegalStage1(_ entry: StreamTableEntry) -> Bool {
    if entry.disablesStalls, capabilities.stallModel != .configurable { return true }
    if capabilities.substreamBits > 0 {
      if entry.descriptorBits > capabilities.substreamBits { return true }
      if entry.descriptorBits > 0, entry.descriptorTable != .linear,
        !capabilities.twoLevelContextTable
      {
        return true
      }
    }
    return !isReachable(entry.descriptors, of: entry)
  }

  /// Returns whether `address` is within the address size of the stream's structures (§3.4.3).
  func isReachable(_ address: UInt64, of entry: StreamTableEntry) -> Bool {
    let bits =
      entry.hasStage2 ? capabilities.intermediateAddressBits : capabilities.outputAddressBits
    return address >> UInt64(bits) == 0
  }

  private func hasIllegalStage2(_ entry: StreamTableEntry) -> Bool {
    if entry.stallsFaults, capabilities.stallModel == .terminate { return true }
    if !entry.stallsFaults, capabilities.stallModel == .stall { return true }
    guard entry.usesAArch64Tables, !entry.isBigEndian,
      isSupported(access: entry.updatesAccessFlag, dirty: entry.updatesDirtyState),
      let granule = entry.granule, capabilities.granules.contains(granule.shift),
      capabilities.wideVMIDs || entry.vmid < 256
    else { return true }
    // Without VAX and 52-bit outputs, 64 KiB tables have no larger input size than others.
    guard entry.inputBits <= min(48, capabilities.intermediateAddressBits) else { return true }
    return entry.table.rawValue >> UInt64(outputBits(entry.outputSizeField)) != 0
      || stage2Table(entry) == nil
  }

  /// Returns the table of stage 2. Returns `nil` when there is no stage 2, or when S2SL0, S2TG and
  /// S2T0SZ are inconsistent or not supported by the unit (DDI 0487 D8.2: AArch64.S2InvalidSL(),
  /// AArch64.S2InconsistentSL()).
  func stage2Table(_ entry: StreamTableEntry) -> VMSAv8Table? {
    guard entry.hasStage2, let granule = entry.granule else { return nil }
    let field = Int(entry.startLevelField)
    let leastBits = granule == .size16K ? 42 : 44
    guard field < 2 || field == 2 && capabilities.outputAddressBits >= leastBits else {
      return nil
    }
    return VMSAv8Table(
      stage2: entry.table, granule: granule, inputSize: 64 - entry.inputBits,
      startLevel: granule == .size4K ? 2 - field : 3 - field,
      outputBits: outputBits(entry.outputSizeField), minimumSize: minimumInputSize,
      options: options(
        access: entry.updatesAccessFlag, dirty: entry.updatesDirtyState,
        ignoresAccessFlag: entry.ignoresAccessFlag))
  }

  // MARK: Context descriptors

  /// Returns whether a context descriptor is ILLEGAL (§5.4.2 CdIllegal()).
  func isIllegal(_ descriptor: ContextDescriptor, in entry: StreamTableEntry) -> Bool {
    guard descriptor.isValid, descriptor.abortsFaults, descriptor.usesAArch64Tables,
      isSupported(access: descriptor.updatesAccessFlag, dirty: descriptor.updatesDirtyState),
      capabilities.wideASIDs || descriptor.asid < 256,
      !(descriptor.stallsFaults
        && (entry.disablesStalls || capabilities.stallModel == .terminate)),
      descriptor.stallsFaults || capabilities.stallModel != .stall
    else { return true }
    let hasTables = !descriptor.disablesLowerWalks || !descriptor.disablesUpperWalks
    if hasTables, descriptor.isBigEndian { return true }
    let regime = regime(descriptor)
    return !descriptor.disablesLowerWalks && regime.lower == nil
      || !descriptor.disablesUpperWalks && regime.upper == nil
  }

  /// Returns the tables of stage 1. A VA range whose walks are disabled or whose fields are illegal
  /// has none.
  func regime(_ descriptor: ContextDescriptor) -> VMSAv8Regime {
    var regime = VMSAv8Regime()
    regime.lower =
      descriptor.disablesLowerWalks ? nil : table(descriptor.lowerTable, of: descriptor)
    regime.upper =
      descriptor.disablesUpperWalks ? nil : table(descriptor.upperTable, of: descriptor)
    regime.ignoresTopByteOfLower = descriptor.ignoresTopByte
    regime.ignoresTopByteOfUpper = descriptor.upperIgnoresTopByte
    return regime
  }

  private func table(
    _ fields: ContextDescriptor.TableFields, of descriptor: ContextDescriptor
  ) -> VMSAv8Table? {
    let outputBits = outputBits(descriptor.outputSizeField)
    guard let granule = fields.granule, capabilities.granules.contains(granule.shift),
      fields.table.rawValue >> UInt64(outputBits) == 0
    else { return nil }
    var options = options(
      access: descriptor.updatesAccessFlag, dirty: descriptor.updatesDirtyState,
      ignoresAccessFlag: descriptor.ignoresAccessFlag)
    if fields.ignoresHierarchy, capabilities.hierarchicalAttributeDisable {
      options.insert(.ignoresHierarchicalPermissions)
    }
    if descriptor.forbidsWritableExecution { options.insert(.writableIsNotExecutable) }
    return VMSAv8Table(
      stage1: fields.table, granule: granule, inputSize: 64 - fields.inputBits,
      outputBits: outputBits, minimumSize: minimumInputSize, options: options)
  }

  // MARK: Stream table entries and context descriptors

  /// The minimum of TxSZ without VAX.
  private var minimumInputSize: Int { 16 }

  /// HD has no effect without HA (§5.4 HD, §5.2 S2HD).
  private func options(access: Bool, dirty: Bool, ignoresAccessFlag: Bool) -> WalkOptions {
    var options: WalkOptions = []
    if access { options.insert(.setsAccessFlag) }
    if access && dirty { options.insert(.setsDirtyState) }
    if ignoresAccessFlag { options.insert(.ignoresAccessFlag) }
    return options
  }

  /// Returns the effective output address size of §5.4 IPS or §5.2 S2PS. The unit does not support
  /// 52 bits.
  private func outputBits(_ field: UInt64) -> Int {
    let sizes = SMMUv3Capabilities.addressSizes
    return min(sizes[min(Int(field), sizes.count - 1)], 48, capabilities.outputAddressBits)
  }

  private func isSupported(access: Bool, dirty: Bool) -> Bool {
    (!access || capabilities.updatesAccessFlag) && (!dirty || capabilities.updatesDirtyState)
  }
}
