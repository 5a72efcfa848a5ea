// What the host's PCI core does to a function on behalf of its driver. Named for the kernel's
// functions, because the driver that calls them (VFIO) is described in the same words.

internal import IOMMU

extension Function {
  /// pci_enable_device(): the ranges the function has are decoded. pci_clear_master() before, so
  /// that nothing left over from an earlier owner can start a DMA.
  package func enable() {
    change { state, _ in
      var command = state.command
      command.remove(.busMaster)
      if !description.bars.isEmpty { command.insert(.memorySpace) }
      state.config.write(Header.command, command.rawValue)
    }
  }

  /// pci_clear_master()
  package func clearMaster() {
    change { state, _ in
      state.config.write(Header.command, state.command.subtracting(.busMaster).rawValue)
    }
  }

  /// pci_try_reset_function(), pci_reset_bus(): the function is reset, and software puts its
  /// configuration back as it was; the model has forgotten everything.
  package func resetKeepingConfiguration() {
    change { state, _ in
      let saved = state.config
      reset(&state)
      state.config.restoreWritableBits(from: saved)
    }
  }

  /// pci_store_saved_state()
  package func saveConfiguration() -> ConfigSpace { change { state, _ in state.config } }

  /// pci_restore_state() from an earlier ``saveConfiguration()``.
  package func restoreConfiguration(_ saved: ConfigSpace) {
    change { state, _ in state.config.restoreWritableBits(from: saved) }
  }

  /// pci_intx(): lets the pin through, or not.
  package func setPinEnabled(_ enabled: Bool) {
    change { state, _ in Self.setPinEnabled(enabled, &state) }
  }

  /// pci_check_and_mask_intx(): masks the pin if it is asserted.
  /// - Returns: whether it was.
  package func maskPinIfAsserted() -> Bool {
    change { state, _ in
      if state.pinAsserted { Self.setPinEnabled(false, &state) }
      return state.pinAsserted
    }
  }

  /// pci_check_and_unmask_intx(): lets the pin through unless it is asserted.
  /// - Returns: whether it is let through.
  package func unmaskPinUnlessAsserted() -> Bool {
    change { state, _ in
      if !state.pinAsserted { Self.setPinEnabled(true, &state) }
      return !state.pinAsserted
    }
  }

  /// pci_alloc_irq_vectors(PCI_IRQ_MSI): enables the capability for at least `vectors` messages.
  package func enableMSI(vectors: Int) {
    guard let offset = description.offset(of: CapabilityID.msi) else { return }
    change { state, _ in
      Self.setPinEnabled(false, &state)
      let shift = vectors <= 1 ? 0 : Int.bitWidth - (vectors - 1).leadingZeroBitCount
      var control: UInt16 = state.config.read(offset + MSI.control)
      control &= ~MSI.multipleEnableMask
      control |= UInt16(shift) << 4 | MSI.enable
      state.config.write(offset + MSI.control, control)
    }
  }

  /// pci_alloc_irq_vectors(PCI_IRQ_MSIX)
  package func enableMSIX() {
    guard let offset = description.offset(of: CapabilityID.msix) else { return }
    change { state, _ in
      Self.setPinEnabled(false, &state)
      state.config.write(offset + MSIX.control, MSIX.enable)
    }
  }

  /// pci_free_irq_vectors(): no messages, and the pin is let through again.
  package func disableMessages() {
    change { state, _ in
      if let offset = description.offset(of: CapabilityID.msi) {
        let control: UInt16 = state.config.read(offset + MSI.control)
        state.config.write(offset + MSI.control, control & ~MSI.enable)
      }
      if let offset = description.offset(of: CapabilityID.msix) {
        state.config.write(offset + MSIX.control, UInt16(0))
      }
      Self.setPinEnabled(true, &state)
    }
  }

  // MARK: Translation services

  /// pci_enable_pasid(), with whatever permissions requests can ask for.
  package func enablePASID() {
    guard let offset = description.extendedOffset(of: ExtendedCapabilityID.pasid) else { return }
    change { state, _ in
      let features: UInt16 = state.config.read(offset + PASIDCapability.capabilities)
      let permissions = features & (PASIDCapability.execute | PASIDCapability.privileged)
      state.config.write(
        offset + PASIDCapability.control, PASIDCapability.enable | permissions)
    }
  }

  /// pci_enable_ats(), for pages of 4 KiB.
  package func enableATS() {
    guard let offset = description.extendedOffset(of: ExtendedCapabilityID.ats) else { return }
    change { state, _ in state.config.write(offset + ATS.control, ATS.enable) }
  }

  /// pci_disable_ats(). The function forgets its translations.
  package func disableATS() {
    guard let offset = description.extendedOffset(of: ExtendedCapabilityID.ats) else { return }
    change { state, _ in state.config.write(offset + ATS.control, 0 as UInt16) }
  }

  /// pci_enable_pri()
  package func enablePageRequests(allocation: UInt32) {
    guard let offset = description.extendedOffset(of: ExtendedCapabilityID.pageRequest) else {
      return
    }
    change { state, _ in
      state.config.write(offset + PageRequestInterface.allocation, allocation)
      state.config.write(offset + PageRequestInterface.control, PageRequestInterface.enable)
      let status: UInt16 = state.config.read(offset + PageRequestInterface.status)
      state.config.set(
        offset + PageRequestInterface.status, status & ~PageRequestInterface.stopped)
    }
  }

  /// pci_disable_pri()
  package func disablePageRequests() {
    guard let offset = description.extendedOffset(of: ExtendedCapabilityID.pageRequest) else {
      return
    }
    change { state, _ in state.config.write(offset + PageRequestInterface.control, 0 as UInt16) }
  }

  /// pci_set_power_state(). Leaving D3hot resets a function without No_Soft_Reset (PCIe §7.5.2.2);
  /// the host then restores its configuration (vfio_pci_set_power_state()).
  package func setPowerState(_ new: PowerState) {
    guard let offset = description.offset(of: CapabilityID.powerManagement) else { return }
    change { state, _ in
      let control: UInt16 = state.config.read(offset + PowerManagement.control)
      if state.powerState == .d3hot, new == .d0, control & PowerManagement.noSoftReset == 0 {
        let saved = state.config
        reset(&state)
        state.config.restoreWritableBits(from: saved)
      }
      state.powerState = new
      state.config.write(
        offset + PowerManagement.control,
        control & ~PowerManagement.powerStateMask | new.rawValue)
    }
  }

  package var powerState: PowerState { change { state, _ in state.powerState } }

  private static func setPinEnabled(_ enabled: Bool, _ state: inout State) {
    var command = state.command
    if enabled { command.remove(.interruptDisable) } else { command.insert(.interruptDisable) }
    state.config.write(Header.command, command.rawValue)
  }
}
