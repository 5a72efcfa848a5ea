// SPDX-License-Identifier: Apache-2.0

// What the host's PCI core does to a function for the function's driver. Each function here stands
// for the kernel function that its comment names.

internal import IOMMU

extension Function {
  /// Makes the function decode its BARs, with bus mastering off: pci_clear_master(), then
  /// pci_enable_device(). Bus mastering is off so that settings of the previous owner start no DMA.
  package func enable() {
    withState { state, _ in
      var command = state.command
      command.remove(.busMaster)
      if !description.bars.isEmpty { command.insert(.memorySpace) }
      state.config.write(Type0Header.command, command.rawValue)
    }
  }

  /// Clears Bus Master Enable: pci_clear_master().
  package func clearMaster() {
    withState { state, _ in
      state.config.write(Type0Header.command, state.command.subtracting(.busMaster).rawValue)
    }
  }

  /// Resets the function and the model, then restores configuration space:
  /// pci_try_reset_function(), pci_reset_bus().
  package func resetKeepingConfiguration() {
    withState { state, _ in
      let saved = state.config
      reset(&state)
      state.config.restoreWritableBits(from: saved)
    }
  }

  /// Returns a copy of configuration space for ``restoreConfiguration(_:)``:
  /// pci_store_saved_state().
  package func saveConfiguration() -> ConfigSpace { withState { state, _ in state.config } }

  /// Restores configuration space from a copy made by ``saveConfiguration()``: pci_restore_state().
  package func restoreConfiguration(_ saved: ConfigSpace) {
    withState { state, _ in state.config.restoreWritableBits(from: saved) }
  }

  /// Clears or sets Interrupt Disable: pci_intx().
  package func setINTxEnabled(_ enabled: Bool) {
    withState { state, _ in Self.setINTxEnabled(enabled, &state) }
  }

  /// Masks INTx if INTx is asserted: pci_check_and_mask_intx().
  /// - Returns: Whether INTx was asserted.
  package func maskINTxIfAsserted() -> Bool {
    withState { state, _ in
      if state.intxIsAsserted { Self.setINTxEnabled(false, &state) }
      return state.intxIsAsserted
    }
  }

  /// Unmasks INTx unless INTx is asserted: pci_check_and_unmask_intx().
  /// - Returns: Whether INTx is unmasked now.
  package func unmaskINTxUnlessAsserted() -> Bool {
    withState { state, _ in
      if !state.intxIsAsserted { Self.setINTxEnabled(true, &state) }
      return !state.intxIsAsserted
    }
  }

  /// Enables MSI with the smallest power of two of at least `vectors` vectors:
  /// pci_alloc_irq_vectors(PCI_IRQ_MSI).
  package func enableMSI(vectors: Int) {
    guard let offset = description.offset(of: CapabilityID.msi) else { return }
    withState { state, _ in
      Self.setINTxEnabled(false, &state)
      let shift = vectors <= 1 ? 0 : Int.bitWidth - (vectors - 1).leadingZeroBitCount
      var control: UInt16 = state.config.read(offset + MSI.control)
      control &= ~MSI.multipleEnableMask
      control |= UInt16(shift) << 4 | MSI.enable
      state.config.write(offset + MSI.control, control)
    }
  }

  /// Enables MSI-X: pci_alloc_irq_vectors(PCI_IRQ_MSIX).
  package func enableMSIX() {
    guard let offset = description.offset(of: CapabilityID.msix) else { return }
    withState { state, _ in
      Self.setINTxEnabled(false, &state)
      state.config.write(offset + MSIX.control, MSIX.enable)
    }
  }

  /// Disables MSI and MSI-X and enables INTx: pci_free_irq_vectors().
  package func disableMessages() {
    withState { state, _ in
      if let offset = description.offset(of: CapabilityID.msi) {
        let control: UInt16 = state.config.read(offset + MSI.control)
        state.config.write(offset + MSI.control, control & ~MSI.enable)
      }
      if let offset = description.offset(of: CapabilityID.msix) {
        state.config.write(offset + MSIX.control, UInt16(0))
      }
      Self.setINTxEnabled(true, &state)
    }
  }

  // MARK: Translation services

  /// Enables PASIDs with every permission that the function supports: pci_enable_pasid().
  package func enablePASID() {
    guard let offset = description.extendedOffset(of: ExtendedCapabilityID.pasid) else { return }
    withState { state, _ in
      let features: UInt16 = state.config.read(offset + PASIDCapability.capabilities)
      let permissions = features & (PASIDCapability.execute | PASIDCapability.privileged)
      state.config.write(
        offset + PASIDCapability.control, PASIDCapability.enable | permissions)
    }
  }

  /// Enables ATS with a smallest translation unit of 4 KiB: pci_enable_ats().
  package func enableATS() {
    guard let offset = description.extendedOffset(of: ExtendedCapabilityID.ats) else { return }
    withState { state, _ in state.config.write(offset + ATS.control, ATS.enable) }
  }

  /// Disables ATS: pci_disable_ats().
  package func disableATS() {
    guard let offset = description.extendedOffset(of: ExtendedCapabilityID.ats) else { return }
    withState { state, _ in state.config.write(offset + ATS.control, 0 as UInt16) }
  }

  /// Enables the page request interface: pci_enable_pri().
  /// - Parameter allocation: The largest number of outstanding page requests.
  package func enablePageRequests(allocation: UInt32) {
    guard let offset = description.extendedOffset(of: ExtendedCapabilityID.pageRequest) else {
      return
    }
    withState { state, _ in
      state.config.write(offset + PageRequestInterface.allocation, allocation)
      state.config.write(offset + PageRequestInterface.control, PageRequestInterface.enable)
      let status: UInt16 = state.config.read(offset + PageRequestInterface.status)
      state.config.set(
        offset + PageRequestInterface.status, status & ~PageRequestInterface.stopped)
    }
  }

  /// Disables the page request interface: pci_disable_pri().
  package func disablePageRequests() {
    guard let offset = description.extendedOffset(of: ExtendedCapabilityID.pageRequest) else {
      return
    }
    withState { state, _ in state.config.write(offset + PageRequestInterface.control, 0 as UInt16) }
  }

  /// Changes the power state: pci_set_power_state(). A function without No_Soft_Reset is reset when
  /// it leaves D3hot (PCIe §7.5.2.2), and the host then restores configuration space
  /// (vfio_pci_set_power_state()).
  package func setPowerState(_ new: PowerState) {
    guard let offset = description.offset(of: CapabilityID.powerManagement) else { return }
    withState { state, _ in
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

  package var powerState: PowerState { withState { state, _ in state.powerState } }

  private static func setINTxEnabled(_ enabled: Bool, _ state: inout State) {
    var command = state.command
    if enabled { command.remove(.interruptDisable) } else { command.insert(.interruptDisable) }
    state.config.write(Type0Header.command, command.rawValue)
  }
}
